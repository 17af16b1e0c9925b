"""One process writes in a folder, any number read; a crash gives it back; where nothing can be written nothing is asked."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import lifelora
from lifelora import owner
from lifelora.errors import BusyError
from lifelora.owner import LOCK, at_work, owned, read

HOLDER = """
import sys
from pathlib import Path
from lifelora.owner import owned, read
with (owned if sys.argv[1] == "owned" else read)(Path(sys.argv[2])):
    print("here", flush=True)
    sys.stdin.read()
"""


def hold(how: str, folder: Path) -> subprocess.Popen[str]:
    """Another process that owns or reads the folder until its input ends."""
    environment = {**os.environ, "PYTHONPATH": str(Path(lifelora.__path__[0]).parent)}
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, how, str(folder)],
        env=environment,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "here\n"
    return holder


def test_the_second_is_refused_and_told_who_the_first_is(tmp_path: Path):
    with hold("owned", tmp_path) as holder:
        for again in (owned, read):
            with pytest.raises(BusyError, match=rf"process {holder.pid} on .*-c owned {tmp_path}"), again(tmp_path):
                raise AssertionError("came in")
        assert f"process {holder.pid} on " in str(at_work(tmp_path))
        holder.communicate("")
    assert at_work(tmp_path) is None
    with owned(tmp_path):
        assert f"process {os.getpid()} on " in (tmp_path / LOCK).read_text()
    assert (tmp_path / LOCK).read_text() == ""


def test_a_killed_owner_owns_nothing(tmp_path: Path):
    with hold("owned", tmp_path) as holder:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    assert at_work(tmp_path) is None
    with owned(tmp_path):
        pass


def test_readers_share_and_keep_a_writer_out(tmp_path: Path):
    with owned(tmp_path):
        pass
    with hold("read", tmp_path) as holder:
        with read(tmp_path):
            pass
        with pytest.raises(BusyError, match="another lifelora, which reads it"), owned(tmp_path):
            raise AssertionError("came in")
        holder.communicate("")


def test_two_in_one_process_are_two(tmp_path: Path):
    with owned(tmp_path), pytest.raises(BusyError, match=f"process {os.getpid()} "), owned(tmp_path):
        raise AssertionError("came in")


def test_what_another_wrote_into_the_lock_is_text(tmp_path: Path):
    with hold("owned", tmp_path) as holder:
        (tmp_path / LOCK).write_text("\x1b[2Jsome\none")
        assert at_work(tmp_path) == "[2Jsomeone"
        holder.communicate("")


def test_an_owner_that_has_not_yet_said_who_it_is_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(owner, "PATIENCE", 60.0)
    with hold("owned", tmp_path) as holder:
        (tmp_path / LOCK).write_text("")
        later = threading.Timer(0.1, (tmp_path / LOCK).write_text, ["process 7"])
        later.start()
        assert at_work(tmp_path) == "process 7"
        later.join()
        holder.communicate("")


def test_where_nobody_has_written_any_user_may_read(tmp_path: Path):
    with read(tmp_path):
        assert not list(tmp_path.iterdir())
