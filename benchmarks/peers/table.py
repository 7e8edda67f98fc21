"""What was measured of each tool, and the page that says it."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median

from loopback import Stats
from processes import Ended


@dataclass(frozen=True)
class Phase:
    """One run: what it used, what the server saw of it, and how many verdicts were on disk after it."""

    ended: Ended
    server: Stats
    verdicts: int

    def outcome(self, judgements: int) -> str:
        """What went wrong, to be put behind a figure; empty where nothing did."""
        if self.ended.hung:
            return f"; **did not end within {self.ended.wall:.0f} s**"
        if self.ended.code:
            return f"; **failed with exit status {self.ended.code}**"
        return "" if self.verdicts == judgements else f"; **{self.verdicts:,} verdicts on disk**"


@dataclass
class Measured:
    """All that is known of one tool.

    Attributes:
        name: its row's name.
        starts: runs of one pair.
        runs: uninterrupted runs from nothing.
        warm: the same command when all is done.
        changed: the same after one prompt became another one.
        renamed: the same with the changed file under another name, where the change was not seen.
        killed: a run that got SIGKILL half-way.
        resumed: the same command after it.
        repeated: questions that the server was asked again over both.
        failed: why it was given up, if it was.
    """

    name: str
    starts: list[Ended] = field(default_factory=list)
    runs: list[Phase] = field(default_factory=list)
    warm: Phase | None = None
    changed: Phase | None = None
    renamed: Phase | None = None
    killed: Phase | None = None
    resumed: Phase | None = None
    repeated: int = 0
    failed: str = ""

    def brief(self) -> str:
        """A line for the terminal."""
        if self.failed:
            return f"{self.name}: {self.failed}"
        last = self.runs[-1]
        return f"{self.name}: {last.ended.cpu:.1f} s CPU, {last.ended.wall:.1f} s, {last.server}"


def _spread(values: list[float], digits: int = 2) -> str:
    if len(values) == 1:
        return f"{values[0]:.{digits}f}"
    return f"{median(values):.{digits}f} ({min(values):.{digits}f}-{max(values):.{digits}f})"


def _cost(measured: Measured, ours: Measured | None, judgements: int, ideal: float) -> str:
    start_cpu = median(ended.cpu for ended in measured.starts)
    start_wall = median(ended.wall for ended in measured.starts)
    each = [1000 * phase.ended.cpu / judgements for phase in measured.runs]
    after = [1000 * (phase.ended.cpu - start_cpu) / (judgements - 2) for phase in measured.runs]
    pairs = list(zip(measured.runs, ours.runs, strict=True)) if ours else []
    times = [theirs.ended.cpu / own.ended.cpu for theirs, own in pairs]
    own_start = median(ended.cpu for ended in ours.starts) if ours else 0.0
    work = [(theirs.ended.cpu - start_cpu) / (own.ended.cpu - own_start) for theirs, own in pairs]
    cells = [
        measured.name,
        _spread(each),
        _spread(after),
        f"{_spread(times, 1)}; {_spread(work, 1)}" if times else "",
        _spread([phase.ended.wall / ideal for phase in measured.runs]),
        _spread([(phase.ended.wall - start_wall) / ideal for phase in measured.runs]),
        str(max(phase.server.most_in_flight for phase in measured.runs)),
        f"{max(phase.ended.peak_mb for phase in measured.runs):.0f}",
        f"{max(phase.ended.processes for phase in measured.runs)}",
        f"{start_cpu:.1f}",
    ]
    return f"| {' | '.join(cells)} |"


def _durability(measured: Measured, judgements: int) -> str:
    warm, changed, resumed = measured.warm, measured.changed, measured.resumed
    if not (warm and changed and resumed and measured.killed):
        return f"| {measured.name} | not measured | | | |"
    again = f"{measured.repeated:,} of {measured.killed.server.received:,}"
    if resumed.server.received >= judgements:
        again += " (starts over)"
    seen = "" if changed.server.distinct == 2 else f" ({changed.server.distinct:,} of the 2 that were due)"
    if measured.renamed:
        seen = f": the change is not seen; with the file renamed {measured.renamed.server.received:,}"
    cells = [
        measured.name,
        again + resumed.outcome(judgements),
        f"{warm.server.received:,} ({warm.ended.wall:.1f} s, {warm.ended.cpu:.1f} s CPU){warm.outcome(judgements)}",
        f"{changed.server.received:,}{seen}{changed.outcome(judgements)}",
    ]
    return f"| {' | '.join(cells)} |"


def page(head: str, results: list[Measured], judgements: int, ideal: float, missing: list[str]) -> str:
    """The Markdown of benchmarks/results/peers.md."""
    whole = [measured for measured in results if measured.runs and not measured.failed]
    ours = next((measured for measured in whole if measured.name == "prefdata"), None)
    pairs = judgements // 2
    lines = [
        "# prefdata beside its peers, end to end\n",
        head,
        f"\n{judgements:,} judgements ({pairs:,} pairs in both orders) from a file to results on disk, each tool in "
        "an environment of its own, interleaved; median (lowest-highest) of the rounds. CPU is user and system time of "
        "the tool's processes; `without start` takes off what a run of one pair costs. `times ours` are the ratios "
        f"within each round, with and without start. The ideal is {ideal:.2f} s. The memory is what all processes of a "
        "tool hold at once, shared pages counted once.\n",
        "| tool | CPU ms per judgement | without start | times ours | wall over ideal | without start | "
        "most in flight | peak memory, MB | processes | CPU s of a start |",
        "|---|---|---|---|---|---|---|---|---|---|",
        *(_cost(measured, ours, judgements, ideal) for measured in whole),
        "\n## What is asked again\n",
        "Counted by the server, over questions that it had already been sent. After `kill -9` of all the tool's "
        "processes half-way, the same command is run to its end; what was in flight at that moment has to be asked "
        "again. Each was done once.\n",
        "| tool | asked again after kill -9, of those asked before it | calls of a warm re-run | "
        f"calls after one prompt of {pairs:,} changed (2 are its own) |",
        "|---|---|---|---|",
        *(_durability(measured, judgements) for measured in whole),
        "",
        *(f"{measured.name} did not get through: {measured.failed}\n" for measured in results if measured.failed),
        *(f"{name} was not there (`--install`).\n" for name in missing),
        *_NOTES,
        *(
            _HUNG
            for measured in whole
            if "distilabel" in measured.name and measured.resumed and measured.resumed.ended.hung
        ),
    ]
    return "\n".join(lines) + "\n"


_NOTES = (
    "Ours makes each question from a prompt, two responses and a card; the peers get it finished, the same characters "
    "(DataDesigner adds the JSON schema in words). How each is told to resume: bespokelabs-curator by its working "
    "folder, its default; NeMo DataDesigner by `resume=ResumeMode.IF_POSSIBLE` with row groups of 250 (of 1,000 unless "
    "said, and more is lost); distilabel by `use_cache=True`, its default; prefdata by nothing. Telemetry, health "
    "checks, rich displays and logs of each request are off, and no limit but the number in flight is left in the way. "
    "Probes that curator sends before it begins are not counted.\n",
    "What the change of one prompt meets: curator names its working folder by the whole data set, DataDesigner knows "
    "the input by its path, and distilabel leaves `data` out of a step's signature, so that an old verdict stands for "
    "the new prompt.\n",
)

_HUNG = (
    "distilabel 1.5.3 loads what it had saved and then waits for a batch that died with its worker. By hand, with 400 "
    "judgements, two other batch sizes, and a stop by Ctrl-C instead of the kill, ended no better.\n"
)
