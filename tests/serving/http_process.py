"""`lifelora serve` as a process that is ready: shared by the tests that need one."""

import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue

import pytest


class Serving(subprocess.Popen[str]):
    """A service whose log is read as it is written: one that nobody reads fills its pipe, and the service waits for a reader."""

    def __init__(self, command: Sequence[str]) -> None:
        super().__init__(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self._lines = SimpleQueue[str | None]()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.stderr is not None
        for line in self.stderr:
            self._lines.put(line)
        self._lines.put(None)

    def line(self) -> str:
        """The next line of the log; '' after the last one."""
        return self._lines.get(timeout=300) or ""

    def ended(self) -> tuple[str, list[str]]:
        """What it printed and the rest of its log, when it has ended by itself."""
        self.wait(120)
        self._reader.join()
        assert self.stdout is not None
        return self.stdout.read(), list(iter(self.line, ""))


@contextmanager
def process(
    folder: Path, *words: str, program: Sequence[str] = ("-m", "lifelora.cli")
) -> Iterator[tuple[Serving, str, list[str]]]:
    """A service that is ready, its address, and what it said before. ``program`` is what Python runs as the command."""
    command = [sys.executable, *program, "serve", str(folder), "--port", "0", "--device", "cpu", "--quiet", *words]
    with Serving(command) as running:
        try:
            assert running.stdout is not None
            said = list[str]()
            for line in running.stdout:
                said.append(line)
                if found := re.search(r"serving .* at (http://\S+);", line):
                    yield running, found[1], said
                    break
            else:
                pytest.fail("".join(iter(running.line, "")))
        finally:
            running.kill()
