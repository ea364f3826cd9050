"""What a run says while it works: a live bar on a terminal, one line per epoch anywhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ner.errors import printable
from ner.scoring import Scores, table


class _Console(Console):
    """Rich ends the process with status 1 when a reader closes the pipe; run_main (ner/errors.py) decides that here."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


console = _Console(highlight=False, soft_wrap=True, emoji=False)


def say(line: str) -> None:
    """A line on standard output; nothing in it is markup or speaks to the terminal."""
    console.print(printable(line, limit=len(line)), markup=False)


@contextmanager
def epoch_bar(epoch: int, epochs: int, steps: int, done: int) -> Iterator:
    """A bar over an epoch's updates; yields ``advance(steps, loss, tokens_per_second)``. Quiet when not on a terminal."""
    columns = (
        TextColumn("epoch {task.fields[epoch]}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]:.4f}  {task.fields[rate]:,.0f} tokens/s"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        task = progress.add_task("", total=steps, completed=done, epoch=f"{epoch}/{epochs}", loss=float("nan"), rate=0.0)
        yield lambda count, loss, rate: progress.update(task, advance=count, loss=loss, rate=rate)


def epoch_line(epoch: int, epochs: int, loss: float, scores: Scores, rate: float, best: bool) -> None:
    """The epoch in a line, and on a terminal the table per type under it."""
    say(
        f"epoch {epoch}/{epochs}  loss {loss:.4f}  validation F1 {scores.f1:.4f} (seqeval default mode)  strict {scores.f1_strict:.4f}  "
        f"precision {scores.precision:.4f}  recall {scores.recall:.4f}  macro F1 {scores.macro_f1:.4f}  {rate:,.0f} tokens/s"
        f"{'  best so far' if best else ''}"
    )
    if console.is_terminal:
        console.print(table(scores))
