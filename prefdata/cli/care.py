"""compact, erase, verify."""

from __future__ import annotations

from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from prefdata.cli.screen import errors, output

if TYPE_CHECKING:
    from prefdata.dataset.closure import Target
    from prefdata.dataset.erase import Reach
    from prefdata.dataset.leftovers import Swept

Folder = Annotated[Path, typer.Argument(help="The dataset's folder.", show_default=False)]

_NOT_REACHED = (
    "not reached: exports and copies elsewhere, datasets that imported these rows, backups and version control, models "
    "that were trained on them, and request caches other than yours"
)


def compact(
    dataset: Folder,
    now: Annotated[bool, typer.Option("--now", help="Remove replaced files at once, not after an hour.")] = False,
) -> None:
    """Replace many small parts by few large ones: the same rows, at every commit. Runs and labels may go on meanwhile.

    Example: `prefdata compact runs/mine`
    """
    from prefdata.dataset import Dataset
    from prefdata.dataset.compact import compact as compact_dataset
    from prefdata.dataset.leftovers import writable

    opened = Dataset(dataset)
    with writable(dataset):
        done = compact_dataset(opened, now=now, say=lambda message: errors.print(escape(message)))
    for table in done.tables:
        before, after = (
            f"{count:,} part{'' if count == 1 else 's'} ({_size(size)})"
            for count, size in zip(table.parts, table.bytes, strict=True)
        )
        output.print(f"{table.table}: {before} to {after}")
    if not done.tables:
        output.print(f"{escape(str(dataset))} is compact")
    _print_swept(done.swept)


def _print_swept(swept: Swept) -> None:
    if swept.removed:
        output.print(f"{swept.removed:,} replaced files removed ({_size(swept.bytes)})")
    if swept.kept:
        size = _size(sum(one.bytes for one in swept.kept))
        until = f"until {swept.until:%H:%M} UTC" if swept.until else "while a run is at work, and for an hour"
        output.print(
            f"{len(swept.kept):,} replaced files ({size}) stay for their readers {until}; the next compact removes them"
        )


def erase(
    dataset: Folder,
    user: Annotated[str | None, typer.Option(help="Of whom prompts are (user_id).", show_default=False)] = None,
    annotator: Annotated[str | None, typer.Option(help="Who annotated: human:ann-07.", show_default=False)] = None,
    prompt: Annotated[str | None, typer.Option(help="One prompt, by its id.", show_default=False)] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    store: Annotated[
        str | None, typer.Option(help="Where labels are kept, if not in the dataset's folder.", show_default=False)
    ] = None,
) -> None:
    """Erase a user, an annotator or a prompt, and all that rests on it, at every commit. It never comes back.

    Example: `prefdata erase runs/mine --user anna@example.org`
    """
    from prefdata.dataset import Dataset
    from prefdata.dataset.closure import Kind, Target
    from prefdata.dataset.erase import erase as erase_from
    from prefdata.dataset.erase import reach
    from prefdata.dataset.leftovers import finish, writable
    from prefdata.engines import RequestCache

    given: list[tuple[Kind, str | None]] = [("user", user), ("annotator", annotator), ("prompt", prompt)]
    named = [Target(kind, name) for kind, name in given if name is not None]
    if len(named) != 1:
        raise typer.BadParameter("say what to erase: one of --user, --annotator, --prompt")
    opened = Dataset(dataset)
    with writable(dataset):
        count = finish(opened)
    if count:
        output.print(f"{count:,} files removed that an erase which was stopped had left")
    beside = [point.load()(opened, named[0], store) for point in entry_points(group="prefdata.erase")]
    _print_reach(dataset, named[0], reach(opened, named[0]))
    for sentence in filter(None, (one.reach() for one in beside)):
        errors.print(f"  {escape(sentence)}")
    if not yes and not typer.confirm("Erase?", err=True):
        errors.print("nothing was erased")
        raise typer.Exit(1)
    cache = RequestCache()
    try:
        with writable(dataset):
            done = erase_from(opened, named[0], cache.forget)
    finally:
        cache.close()
    told = [one.erase() for one in beside]
    output.print(
        f"erased: {_counts(done.reach)}; {done.forgotten:,} answers in the request cache forgotten, {done.files:,} "
        "files written anew or removed. The next run of each pipeline follows, and asks nothing for what is gone"
    )
    for sentence in filter(None, told):
        output.print(escape(sentence))


def _print_reach(dataset: Path, target: Target, found: Reach) -> None:
    say = errors.print
    say(f"[bold]goes from {escape(str(dataset))}, at every commit, and cannot be brought back:[/] {_counts(found)}")
    if found.asked:
        say(
            f"  the answers of {found.asked:,} calls, those that sampled responses included, here and in your request "
            "cache; what they cost stays. Answers that other datasets asked for about the same prompts go from that "
            "cache as well"
        )
    if found.copies:
        say(f"  altogether, since they may hold the same texts: {escape(', '.join(found.copies))}")
    if target.kind == "annotator":
        say("  consensus and preferences that others' annotations bear too stay as numbers until the next run")
    if found.mentions:
        commits = ", ".join(str(number) for number in found.mentions)
        say(f"  stays: the name in the log's own text (a pipeline as it was written), in commit {commits}")
    if found.links:
        say(f"  stays: what these links point at: {escape(', '.join(found.links))}")
    say(f"  {_NOT_REACHED}")


def _counts(found: Reach) -> str:
    rows = {table: count for table, count in found.rows.items() if table != "progress"}  # the runtime's own
    return ", ".join(f"{count:,} {table}" for table, count in sorted(rows.items())) or "no rows"


def verify(
    dataset: Folder,
    repair: Annotated[bool, typer.Option("--repair", help="Put right what can be; deletes nothing.")] = False,
) -> None:
    """Read all of a dataset, and say what is wrong with it. Exit code 0: it is sound, but for notes; 1: it is not.

    Example: `prefdata verify runs/mine`
    """
    from prefdata.dataset.leftovers import writable
    from prefdata.dataset.repair import repair as repair_dataset
    from prefdata.dataset.verify import verify as verify_dataset

    if repair:
        with writable(dataset):
            done = repair_dataset(dataset)
        for sentence in done:
            output.print(escape(sentence))
    found = verify_dataset(dataset)
    for finding in found.findings:
        output.print(f"{'[bold red]wrong:[/]' if finding.wrong else 'note:'} {escape(finding.text)}")
    state = "is sound" if found.sound else "[bold red]is not sound[/]"
    output.print(
        f"{escape(str(dataset))} {state}: {found.commits:,} commits, {found.parts:,} parts, {found.rows:,} rows read"
    )
    raise typer.Exit(0 if found.sound else 1)


def _size(count: int) -> str:
    return f"{count / 1e6:,.1f} MB" if count >= 100_000 else f"{count / 1e3:,.1f} kB"
