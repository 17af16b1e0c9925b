"""`lifelora serve` as a process that is ready: shared by the tests that need one."""

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def process(folder: Path, *words: str) -> Iterator[tuple[subprocess.Popen[str], str, list[str]]]:
    """A service that is ready, its address, and what it said before."""
    command = [sys.executable, "-m", "lifelora.cli", "serve", str(folder), "--port", "0", "--device", "cpu", "--quiet", *words]
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
