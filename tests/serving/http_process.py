"""`lifelora serve` as a process that is ready: shared by the tests that need one."""

import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def process(
    folder: Path, *words: str, program: Sequence[str] = ("-m", "lifelora.cli")
) -> Iterator[tuple[subprocess.Popen[str], str, list[str]]]:
    """A service that is ready, its address, and what it said before. ``program`` is what Python runs as the command."""
    command = [sys.executable, *program, "serve", str(folder), "--port", "0", "--device", "cpu", "--quiet", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        try:
            assert running.stdout is not None
            said = list[str]()
            for line in running.stdout:
                said.append(line)
                if found := re.search(r"serving .* at (http://\S+);", line):
                    yield running, found[1], said
                    break
            else:
                pytest.fail(running.stderr.read() if running.stderr else "")
        finally:
            running.kill()
