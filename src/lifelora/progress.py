"""What a user sees of long work: how much is done, how fast it goes, how long it still takes. Knows no task.

On a terminal it is a bar; anywhere else (a log file, CI) a line every half minute, and none for short work. It goes to
standard error, and nothing about a result depends on it.
"""

import os
import time
from types import TracebackType

import rich.progress
from rich.console import Console

BAR_SECONDS = 0.25
"""On a terminal: the least time between two redrawings, so that counting microsecond steps costs nothing."""
LINE_SECONDS = 30.0
"""Elsewhere: the least time between two lines."""


def duration(seconds: float) -> str:
    """``7 s``, ``3:07`` (minutes) or ``2:05:09`` (hours)."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


def speaks() -> bool:
    """Whether this process shows anything: of those that torchrun starts, the first alone."""
    return os.environ.get("RANK", "0") == "0"


def say(text: str) -> None:
    """One line about the work, where its progress is shown."""
    if not speaks():
        return
    Console(stderr=True, soft_wrap=True).print(text, highlight=False, markup=False)


class Progress:
    """``with Progress("din", total=776_007) as progress: progress.advance(256, "loss 0.51")``.

    ``done`` of the ``total`` were done earlier, by a process that was killed; they do not count as speed.
    """

    def __init__(
        self, name: str, total: int, *, unit: str = "samples", done: int = 0, enabled: bool = True, console: Console | None = None
    ) -> None:
        self.name, self.total, self.unit, self.done, self.enabled = name, total, unit, done, enabled and speaks()
        self._before, self._note = done, ""
        self._console = console or Console(stderr=True, soft_wrap=True)
        self._bar = None
        if self.enabled and self._console.is_terminal:
            columns = rich.progress.BarColumn(), rich.progress.TaskProgressColumn(), "{task.fields[text]}"
            self._bar = rich.progress.Progress("{task.description}", *columns, console=self._console)
        self._task = self._bar.add_task(name, total=total, completed=done, text="") if self._bar else None

    def __enter__(self) -> "Progress":
        self._began = self._shown = time.monotonic()
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bar:
            self._show()
            self._bar.stop()

    def advance(self, count: int, note: str | None = None) -> None:
        """``count`` more units are done; ``note`` stays until the next one."""
        self.done += count
        self._note = self._note if note is None else note
        now = time.monotonic()
        if self.enabled and now - self._shown >= (BAR_SECONDS if self._bar else LINE_SECONDS):
            self._shown = now
            self._show()

    def text(self) -> str:
        """Speed, time left at that speed, and the note."""
        rate = (self.done - self._before) / max(time.monotonic() - self._began, 1e-9)
        left = f", {duration((self.total - self.done) / rate)} left" if rate > 0 and self.done < self.total else ""
        return f"{rate:,.0f} {self.unit}/s{left}" + (f"  {self._note}" if self._note else "")

    def _show(self) -> None:
        if self._bar and self._task is not None:
            self._bar.update(self._task, completed=self.done, text=self.text())
        else:
            done = f"{self.done:,} of {self.total:,} {self.unit} ({self.done / max(self.total, 1):.0%})"
            self._console.print(f"{self.name}: {done}, {self.text()}", highlight=False, markup=False)
