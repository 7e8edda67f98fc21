"""What a run shows: a line for each step with rate, time left, tokens and money, and a log file."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from prefdata.engines.budget import Usage

logging.getLogger("prefdata").addHandler(logging.NullHandler())  # what is logged outside of a run goes nowhere


def spent_text(usage: Usage | None) -> str:
    """`120 calls, 30 from the cache, 45.1k tokens, $0.02`; nothing where nothing was asked."""
    if usage is None or not (usage.calls or usage.cached):
        return ""
    tokens = usage.prompt_tokens + usage.completion_tokens
    shown = f"{tokens / 1000:.1f}k" if tokens >= 1000 else str(tokens)
    parts = [f"{usage.calls:,} calls"]
    if usage.cached:
        parts.append(f"{usage.cached:,} from the cache")
    parts.append(f"{shown} tokens")
    if usage.money:
        parts.append(f"${usage.money:,.4f}")
    return ", ".join(parts)


def asked_text(before: Usage | None, after: Usage | None) -> str:
    """What a run asked in between: `120 calls, 2 failed, 30 from the cache`. Bills of earlier runs are none of it."""
    if before is None or after is None:
        return ""
    counts = ("calls", after.calls - before.calls), ("failed", after.failed - before.failed)
    parts = [
        f"{count:,} {name}" for name, count in (*counts, ("from the cache", after.cached - before.cached)) if count
    ]
    return ", ".join(parts)


class Display:
    """Writes to the screen: a live bar on a terminal, one line a step elsewhere."""

    def __init__(self, console: Console | None = None, *, quiet: bool = False) -> None:
        self.console = console or Console(stderr=True, highlight=False, emoji=False)
        self.quiet = quiet
        self._said: set[str] = set()

    def say(self, message: str) -> None:
        """A line, once."""
        if message not in self._said:
            self._said.add(message)
            logging.getLogger("prefdata.run").info(message)
            if not self.quiet:
                self.console.print(escape(message))

    @contextmanager
    def step(self, name: str, total: int, usage: Usage | None) -> Iterator[Callable[[int], None]]:
        """Show a step's progress; yields a function that adds finished groups."""
        if self.quiet or not self.console.is_terminal or not total:
            yield lambda _: None
            return
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[spent]}"),
        )
        with Progress(*columns, console=self.console, transient=True) as progress:
            task = progress.add_task(escape(name), total=total, spent="", rate="")

            def advance(count: int) -> None:
                speed = progress.tasks[0].speed
                rate = f"{speed:.1f}/s" if speed else ""
                progress.update(task, advance=count, spent=spent_text(usage), rate=rate)

            yield advance


@contextmanager
def log_file(dataset: Path) -> Iterator[Path]:
    """Write the run's log to `logs/` in the dataset while the block runs."""
    folder = dataset / "logs"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"run-{datetime.now(UTC):%Y%m%dT%H%M%S%f}.log"
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger = logging.getLogger("prefdata")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield path
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        handler.close()
