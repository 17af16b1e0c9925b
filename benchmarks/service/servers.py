"""Servers as processes of their own, each with one thread for the model, on one core: what they use is read from outside.

Knows commands, no requests.
"""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Served:
    """A server that is ready."""

    name: str
    process: subprocess.Popen[str]
    host: str
    port: int

    def cpu(self) -> float:
        """CPU seconds since it was started."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def rss(self) -> int:
        """Bytes of memory that it holds now."""
        return _bytes(self.process.pid, "VmRSS")

    def peak(self) -> int:
        """The most bytes that it ever held."""
        return _bytes(self.process.pid, "VmHWM")


def begun(words: Sequence[str], log: Path, core: int | None = None, *, quiet: bool = False) -> subprocess.Popen[str]:
    """A Python process whose standard error goes to a file; with one thread, and on one core if one is named.

    What it prints is to be read by the caller, unless ``quiet``.
    """
    given = os.environ | {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    out = subprocess.DEVNULL if quiet else subprocess.PIPE
    with log.open("ab") as errors:
        process = subprocess.Popen([sys.executable, *words], stdout=out, stderr=errors, text=True, env=given)
    if core is not None:
        os.sched_setaffinity(process.pid, {core})  # its threads come later, and stay there
    return process


def serve_words(run: Path, store: str, port: int = 0) -> list[str]:
    """`lifelora serve`."""
    return ["-m", "lifelora.cli", "serve", str(run), "--port", str(port), "--store", store, "--device", "cpu", "--quiet"]


def without_trunks(run: Path, store: str) -> list[str]:
    """The same service, whose engine keeps no trunk."""
    return [*serve_words(run, store), "--warm-memory", "0"]


def plain_words(folder: Path) -> list[str]:
    """The server with a LoRA for each user."""
    return [str(HERE / "plain_server.py"), str(folder)]


def ready(process: subprocess.Popen[str]) -> tuple[str, int] | None:
    """Where a process says that it serves; None where it ends before."""
    assert process.stdout is not None
    for line in process.stdout:
        if found := re.search(r"serving .* at http://([^:\s]+):(\d+);", line):
            return found[1], int(found[2])
    return None


def orderly() -> None:
    """Let SIGTERM end this process as an error does, so that what it started ends, too."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))


@contextmanager
def served(name: str, words: Sequence[str], log: Path, core: int | None = None) -> Iterator[Served]:
    """A server, until the end of the block."""
    process = begun(words, log, core)
    try:
        where = ready(process)
        if where is None:
            raise SystemExit(f"{name} did not start; {log} says why:\n{log.read_text()[-2000:]}")
        yield Served(name, process, *where)
    finally:
        ended(process)


def ended(process: subprocess.Popen[str], seconds: float = 60.0) -> None:
    """Stop a process of ours, gently at first."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        until = time.monotonic() + seconds
        while process.poll() is None and time.monotonic() < until:
            time.sleep(0.05)
        if process.poll() is None:
            process.kill()
    process.wait()
    if process.stdout is not None:
        process.stdout.close()


def _bytes(pid: int, name: str) -> int:
    found = re.search(rf"{name}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) * 1024 if found else 0
