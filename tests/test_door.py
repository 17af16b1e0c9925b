"""What stops a command becomes a message with a mend and a status: faults of the system, of memory, signals, arguments."""

import errno
import os
import signal
import sys
from collections.abc import Callable

import pytest
import torch

from lifelora.cli import main
from lifelora.door import LINE, LINES, Terminated, cut, through
from lifelora.errors import ConfigError, PeerError


def raising(error: BaseException) -> Callable[[], int]:
    def handler() -> int:
        raise error

    return handler


@pytest.mark.parametrize(
    ("code", "mend"),
    [
        (errno.ENOSPC, "make room, then run the same command again: it goes on from where it was"),
        (errno.EROFS, "another place"),
        (errno.EACCES, "change the permissions"),
        (errno.EFBIG, "ulimit -f"),
        (errno.EIO, "the disk failed"),
        (errno.ENOENT, "check the path"),
        (errno.EDEADLK, "then run the same command again"),
    ],
)
def test_a_fault_of_the_system_names_the_file_and_the_mend(code: int, mend: str, capsys: pytest.CaptureFixture[str]):
    assert through(raising(OSError(code, os.strerror(code), "runs/a/table.txt")), []) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"lifelora: 'runs/a/table.txt': {os.strerror(code)}. Mend: ")
    assert mend in said
    assert said.count("\n") == 1


def test_memory_and_faults_without_a_file(capsys: pytest.CaptureFixture[str]):
    assert through(raising(MemoryError("Unable to allocate 7 GiB")), []) == 1
    assert "there is not enough memory (Unable to allocate 7 GiB)" in capsys.readouterr().err
    assert through(raising(OSError("odd")), []) == 1
    assert capsys.readouterr().err.startswith("lifelora: the system: odd. Mend: ")


def test_a_fault_of_the_program_is_not_hidden():
    with pytest.raises(ZeroDivisionError):
        through(raising(ZeroDivisionError()), [])


def test_a_gpu_whose_memory_is_full_is_no_fault_of_the_program(capsys: pytest.CaptureFixture[str]):
    assert through(raising(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nmore")), []) == 1
    said = capsys.readouterr().err
    assert "lower --tokens-at-once" in said
    assert said.endswith("(CUDA out of memory. Tried to allocate 2 GiB.)\n")


def test_the_first_process_speaks_for_all(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    assert through(raising(PeerError("process 2 of 2 ended: no such file", told=True)), []) == 1
    assert capsys.readouterr().err == ""
    assert through(raising(PeerError("process 1 of 2 lost another one")), []) == 1
    assert capsys.readouterr().err == "lifelora: process 1 of 2 lost another one\n"
    monkeypatch.setenv("RANK", "1")
    assert through(raising(ConfigError("no such key")), []) == 1
    assert capsys.readouterr().err == ""


def test_long_messages_are_cut(capsys: pytest.CaptureFixture[str]):
    assert through(raising(ConfigError("\n".join(["x" * 10_000] * 1_000))), []) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == LINES + 1
    assert max(map(len, lines)) < LINE + 60
    assert lines[0].endswith("(9,400 more characters)")
    assert lines[-1] == "… (940 more lines)"
    assert cut("short\nlines") == "short\nlines"


@pytest.mark.parametrize(("how", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_stop_a_command_with_a_message(how: signal.Signals, status: int, capsys: pytest.CaptureFixture[str]):
    def handler() -> int:
        os.kill(os.getpid(), how)
        raise AssertionError("went on")

    before = signal.getsignal(signal.SIGTERM)
    # A shell starts what runs in the background with SIGINT ignored, and the tests may be run so.
    interrupt = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert through(handler, []) == status
    finally:
        signal.signal(signal.SIGINT, interrupt)
    assert capsys.readouterr().err == "\nlifelora: stopped; run the same command again to go on from here.\n"
    assert signal.getsignal(signal.SIGTERM) is before
    assert issubclass(Terminated, KeyboardInterrupt)


@pytest.mark.parametrize(
    "words", [["show", "caf\udce9"], ["recommend", "runs/demo", "--user", "\udcff"], ["data", "tables:\ud800"]]
)
def test_arguments_that_are_no_text_are_refused(words: list[str], capsys: pytest.CaptureFixture[str]):
    """What the shell gives for bytes that are no UTF-8; and half a pair from Python."""
    assert main(words) == 1
    said = capsys.readouterr().err
    assert "is not valid UTF-8" in said
    assert "\\ud" in said


def test_a_reader_that_has_enough_stops_it_quietly():
    """As in `lifelora show RUN | head -1`: no message, and the status that a shell gives for a broken pipe."""
    import subprocess

    code = "import sys; from lifelora.door import through\nsys.exit(through(lambda: print('x' * 1_000_000) or 0, []))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    words, pipe = [sys.executable, "-c", code], subprocess.PIPE
    with subprocess.Popen(words, env=environment, stdout=pipe, stderr=pipe) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(1)
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


@pytest.mark.parametrize("words", [["--version"], ["recipe", "rella"], ["run", "--help"]])
def test_no_command_ends_with_a_traceback_where_nobody_reads(words: list[str]):
    """The reader is gone before anything is written: whether it is seen at once or at the end, nothing is said."""
    import subprocess

    reads, writes = os.pipe()
    os.close(reads)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-m", "lifelora.cli", *words], env=environment, stdout=writes, stderr=subprocess.PIPE)
    os.close(writes)
    assert (done.stderr, done.returncode in (0, 141)) == (b"", True)  # argparse itself passes over a help that nobody reads
