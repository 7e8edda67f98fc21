"""prefdata beside its peers, end to end: 2,500 pairs judged in both orders, each tool in its own environment.

    python benchmarks/peers/compare.py --install --venvs build/peers

Each tool reads its input from a file, asks the same loopback server (50 ms, in a process of its own), reads the
verdict out of the JSON answer, and leaves its results on disk. Ours is `prefdata run prefdata.yaml`, which makes each
question from a prompt and two responses and a card; the peers get the finished question, the same characters. What
each is told for resuming stands at the head of its driver. Then, for each: a kill -9 of all its processes half-way and
the same command again; the same command once more when all is done; and again with one of the 2,500 prompts changed.
Writes benchmarks/results/peers.md. `--install` makes the environments (PyPI); a tool without one is left out, and said
so.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import polars as pl
from processes import Ended, run

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from contenders import load, surroundings  # noqa: E402  (the folder above is no package)
from loopback import Loopback, Stats, loopback  # noqa: E402
from table import Measured, Phase, page  # noqa: E402

RESULTS = HERE.parent / "results" / "peers.md"
_WORDS = (
    "tide",
    "moon",
    "sea",
    "pull",
    "side",
    "water",
    "strong",
    "high",
    "sun",
    "half",
    "earth",
    "far",
    "near",
    "rest",
)


@dataclass(frozen=True)
class Peer:
    """A tool: its row's name, what its environment holds, its driver and where that leaves the verdicts."""

    name: str
    requirements: tuple[str, ...]
    driver: str
    verdicts: str


PEERS = {
    "curator": Peer("bespokelabs-curator 0.1.31", ("bespokelabs-curator==0.1.31",), "with_curator.py", "*.parquet"),
    "data-designer": Peer(
        "NeMo DataDesigner 0.9.6", ("data-designer==0.9.6",), "with_data_designer.py", "verdicts/**/*.parquet"
    ),
    "distilabel": Peer(
        "distilabel 1.5.3", ("distilabel[openai]==1.5.3", "requests==2.34.2"), "with_distilabel.py", "*.parquet"
    ),
}


def make_prompts(path: Path, cases: int, changed: int | None = None) -> None:
    """Prompts of about 120 and responses of about 350 characters, the same in each call; one may be another one."""
    draw = random.Random(20)
    with path.open("w") as out:
        for case in range(cases):
            prompt, a, b = (" ".join(draw.choices(_WORDS, k=words)) for words in (25, 70, 70))
            other = "Once more: " if case == changed else ""
            responses = [{"text": f"{a}.", "model": "a"}, {"text": f"{b}.", "model": "b"}]
            out.write(json.dumps({"prompt": f"{other}Case {case}: {prompt}?", "responses": responses}) + "\n")


def make_judgements(prompts: Path, path: Path) -> None:
    """The questions that our judge makes of these prompts, for the peers."""
    from prefdata.annotators.frame import compare_message
    from prefdata.cards import load_card
    from prefdata.formats import read

    rows, card = read("ranked", prompts).rows, load_card("helpfulness")
    texts: dict[str, list[str]] = {}
    for response in rows["responses"]:
        texts.setdefault(response["prompt_id"], []).append(response["text"])
    with path.open("w") as out:
        for case, prompt in enumerate(rows["prompts"]):
            a, b = texts[prompt["prompt_id"]]
            for order, shown in enumerate([(a, b), (b, a)]):
                text = compare_message(prompt, *shown, card)
                out.write(json.dumps({"case": case, "order": order, "text": text}) + "\n")


class Contender:
    """One tool in one folder: its command, and what it left there."""

    def __init__(self, key: str, folder: Path, url: str, options: argparse.Namespace) -> None:
        self.peer, self.folder = PEERS.get(key), folder
        self.input, self.out = folder / ("judgements.jsonl" if self.peer else "prompts.jsonl"), folder / "out"
        if self.peer:
            python = str(options.venvs.resolve() / key / "bin" / "python")
            told = [str(self.input), str(self.out), "--url", url, "--in-flight", str(options.in_flight)]
            self.command = [python, str(HERE / self.peer.driver), *told]
        else:
            sets = {"engines.judge.base_url": url, "engines.judge.max_concurrency": options.in_flight}
            told = [text for key, value in sets.items() for text in ("--set", f"{key}={value}")]
            tool = str(Path(sys.executable).with_name("prefdata"))
            self.command = [tool, "run", "prefdata.yaml", "--dataset", str(self.out), *told]
        home = folder / "home"
        home.mkdir(parents=True)
        self.environment = {**os.environ, "HOME": str(home), "PREFDATA_CACHE": str(home / "requests")}
        if self.peer:
            self.environment.pop("PYTHONPATH", None)  # its environment is its own

    def put(self, prompts: Path, judgements: Path) -> None:
        """Lay the input where the tool reads it."""
        self.out.mkdir(exist_ok=True)
        shutil.copy(HERE / "prefdata.yaml", self.folder)
        shutil.copy(judgements if self.peer else prompts, self.input)

    def rename(self) -> None:
        """The same input under another name, for tools that know a file by its path."""
        renamed = self.input.with_stem("renamed")
        self.command = [str(renamed) if text == str(self.input) else text for text in self.command]
        self.input = self.input.rename(renamed)

    def verdicts(self) -> int:
        """How many verdicts are on disk."""
        if self.peer is None:
            import prefdata

            found = prefdata.open(self.out).annotations.filter(pl.col("status") == "ok")
            return int(found.select(pl.len()).collect().item())
        files = [path for path in self.out.glob(self.peer.verdicts) if "dropped" not in str(path)]
        # By itself: a run beside an older one may leave both.
        return sum(pl.read_parquet(path, columns=["verdict"])["verdict"].drop_nulls().len() for path in files)


class Comparison:
    """All phases of one tool against one server."""

    def __init__(self, key: str, scratch: Path, server: Loopback, options: argparse.Namespace) -> None:
        self.key, self.scratch, self.server, self.options = key, scratch, server, options
        self.many = (scratch / "prompts.jsonl", scratch / "judgements.jsonl")
        self.changed = (scratch / "prompts-changed.jsonl", scratch / "judgements-changed.jsonl")
        self.few = (scratch / "prompts-few.jsonl", scratch / "judgements-few.jsonl")
        self._folders = 0

    def fresh(self, files: tuple[Path, Path]) -> Contender:
        self._folders += 1
        contender = Contender(self.key, self.scratch / f"{self.key}-{self._folders}", self.server.url, self.options)
        contender.put(*files)
        return contender

    def phase(self, contender: Contender, kill_at: int | None = None) -> Phase:
        """Run it once; what the server saw is the difference."""
        before = self.server.stats()

        def due() -> bool:
            return kill_at is not None and self.server.stats().received - before.received >= kill_at

        ended = run(contender.command, contender.folder, contender.environment, due, self.options.limit)
        return Phase(ended, _difference(before, self.server.stats()), contender.verdicts() if not ended.code else 0)

    def whole(self) -> tuple[Phase, Contender]:
        """An uninterrupted run from nothing."""
        self.server.reset()
        contender = self.fresh(self.many)
        phase = self.phase(contender)
        if phase.ended.code or phase.verdicts != 2 * self.options.cases:
            raise RuntimeError(f"exit status {phase.ended.code}, {phase.verdicts} verdicts on disk: {phase.ended.said}")
        return phase, contender

    def start(self) -> Ended:
        """A run of one pair: what importing and setting up costs."""
        self.server.reset()
        return self.phase(self.fresh(self.few)).ended

    def durability(self, measured: Measured, contender: Contender) -> None:
        """Warm, one prompt changed, then a kill half-way of a new run and its resumption."""
        measured.warm = self.phase(contender)
        contender.put(*self.changed)
        measured.changed = self.phase(contender)
        if measured.changed.server.distinct == 0:
            contender.rename()
            measured.renamed = self.phase(contender)
        self.server.reset()
        killed = self.fresh(self.many)
        measured.killed = self.phase(killed, kill_at=self.options.cases)
        measured.resumed = self.phase(killed)
        measured.repeated = self.server.stats().repeated


def _difference(before: Stats, after: Stats) -> Stats:
    counted = {name: getattr(after, name) - getattr(before, name) for name in vars(after) if name != "most_in_flight"}
    return Stats(**counted, most_in_flight=after.most_in_flight)


def install(venvs: Path) -> None:
    """Make the environments that are missing."""
    for key, peer in PEERS.items():
        python = venvs / key / "bin" / "python"
        if not python.exists():
            subprocess.run([sys.executable, "-m", "venv", str(venvs / key)], check=True)
            subprocess.run([str(python), "-m", "pip", "install", "--quiet", *peer.requirements], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--venvs", type=Path, default=Path("build/peers"))
    parser.add_argument("--install", action="store_true", help="Make the environments that are missing.")
    parser.add_argument("--only", nargs="+", choices=["prefdata", *PEERS], help="Only these.")
    parser.add_argument("--cases", type=int, default=2500, help="Prompts; two judgements each.")
    parser.add_argument("--in-flight", type=int, default=64)
    parser.add_argument("--latency", type=float, default=0.05, help="Seconds.")
    parser.add_argument("--limit", type=float, default=300.0, help="Seconds after which a run is taken to hang.")
    parser.add_argument("--rounds", type=int, default=3, help="Uninterrupted runs of each, interleaved.")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # so that no tool outlives this
    if options.install:
        install(options.venvs)
    begun = load()
    wanted = [key for key in ("prefdata", *PEERS) if options.only is None or key in options.only]
    present = [key for key in wanted if key == "prefdata" or (options.venvs / key / "bin" / "python").exists()]
    results = {key: Measured(PEERS[key].name if key in PEERS else "prefdata") for key in present}
    with tempfile.TemporaryDirectory() as folder, loopback(latency=options.latency) as server:
        scratch = Path(folder)
        for name, cases, changed in (("", options.cases, None), ("-changed", options.cases, 1234), ("-few", 1, None)):
            prompts = scratch / f"prompts{name}.jsonl"
            make_prompts(prompts, cases, None if changed is None else changed % cases)
            make_judgements(prompts, scratch / f"judgements{name}.jsonl")
        comparisons = {key: Comparison(key, scratch, server, options) for key in present}
        for number in range(options.rounds):
            for key, comparison in comparisons.items():
                measured = results[key]
                if measured.failed:
                    continue
                try:
                    measured.starts.append(comparison.start())
                    phase, contender = comparison.whole()
                    measured.runs.append(phase)
                    if number == options.rounds - 1:
                        comparison.durability(measured, contender)
                    shutil.rmtree(contender.folder)
                except RuntimeError as error:
                    measured.failed = str(error)
                print(number + 1, measured.brief(), flush=True)
    ideal = math.ceil(2 * options.cases / options.in_flight) * options.latency
    told = f"--cases {options.cases} --in-flight {options.in_flight} --rounds {options.rounds}"
    told += f" --latency {options.latency:g} --limit {options.limit:g}"
    head = (
        f"`python benchmarks/peers/compare.py --install {told}`, {surroundings()}; load {begun} before, {load()} after."
    )
    missing = [PEERS[key].name for key in wanted if key not in present]
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(page(head, list(results.values()), 2 * options.cases, ideal, missing))
    print(options.out.read_text())


if __name__ == "__main__":
    main()
