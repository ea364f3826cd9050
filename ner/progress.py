"""What the programs say: lines, the table of scores, and while a run works a live bar on a terminal and one line per validation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from ner.errors import printable
from ner.scoring import MODE, STRICT_MODE, Scores


class _Console(Console):
    """Rich ends the process with status 1 when a reader closes the pipe; run_main (ner/errors.py) decides that here."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


console = _Console(highlight=False, soft_wrap=True, emoji=False)


def say(line: str) -> None:
    """A line on standard output; nothing in it is markup or speaks to the terminal."""
    console.print(printable(line, limit=len(line)), markup=False)


def table(scores: Scores) -> Table:
    """``scores`` for the terminal: one row per type, then the averages, each with its mode."""
    grid = Table(title="Entity scores")
    grid.add_column("type")
    for name in ("precision", "recall", f"F1 ({MODE})", "entities"):
        grid.add_column(name, justify="right")
    for type_, row in scores.per_type.items():
        numbers = (f"{row[name]:.4f}" for name in ("precision", "recall", "f1"))
        grid.add_row(Text(type_), *numbers, f"{row['support']:,}")  # Text: a type may hold rich's [markup]
    grid.add_section()
    micro = (f"{value:.4f}" for value in (scores.precision, scores.recall, scores.f1))
    grid.add_row("all (micro)", *micro, f"{scores.entities:,}", style="bold")
    grid.add_row("all (macro)", "", "", f"{scores.macro_f1:.4f}", "")
    grid.add_row(f"F1 {STRICT_MODE}", "", "", f"{scores.f1_strict:.4f}", "")
    return grid


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


def validation_line(done: float, epochs: int, loss: float, scores: Scores, rate: float, best: bool) -> None:
    """A validation after ``done`` epochs, whole or not, in a line, and on a terminal the table per type under it."""
    say(
        f"epoch {round(done, 2):g}/{epochs}  loss {loss:.4f}  validation F1 {scores.f1:.4f} ({MODE})  strict {scores.f1_strict:.4f}  "
        f"precision {scores.precision:.4f}  recall {scores.recall:.4f}  macro F1 {scores.macro_f1:.4f}  {rate:,.0f} tokens/s"
        f"{'  best so far' if best else ''}"
    )
    if console.is_terminal:
        console.print(table(scores))
