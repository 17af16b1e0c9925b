"""Who works in a folder: one process that writes, or any number that read. Knows no stage.

The lock is the system's (``flock``), on a file in the folder, so it ends with the process, however that ends. It is advice:
only lifelora asks for it.
"""

import errno
import os
import shlex
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from lifelora.errors import BusyError
from lifelora.progress import say

if sys.platform != "win32":
    import fcntl

LOCK = ".lifelora.lock"
PATIENCE = 2.0
"""Seconds for which an owner that has not yet said who it is may go on to do so."""
NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EINVAL, errno.ENOSYS)


@contextmanager
def owned(folder: Path) -> Iterator[None]:
    """The folder is this process's to write in; BusyError says who has it where another lifelora works there.

    Where nothing can be written there is nothing to own: a finished run on a read-only disk can still be opened.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / LOCK
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        if error.errno not in (errno.EROFS, errno.EACCES, errno.EPERM):
            raise
        yield
        return
    try:
        if not _locked(descriptor, exclusive=True):
            # A reader leaves no note in the file, which may still name the last writer.
            who = "another lifelora, which reads it" if _locked(descriptor, exclusive=False) else _who(path)
            raise BusyError(
                f"{folder} is in use by {who}; one process at a time works on a run. Wait until it has ended, or "
                "choose another folder."
            )
        me = f"process {os.getpid()} on {socket.gethostname()} since {datetime.now():%Y-%m-%d %H:%M}: {shlex.join(sys.argv)}"
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, me.encode(errors="replace")[:300], 0)
        try:
            yield
        finally:
            os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


@contextmanager
def read(folder: Path) -> Iterator[None]:
    """While the folder is read, others may read it too and none may write; BusyError if a process is writing."""
    path = folder / LOCK
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:  # no process has written here since it was copied, or we may not read the file
        yield
        return
    try:
        if not _locked(descriptor, exclusive=False):
            raise BusyError(
                f"{folder} is being made by {_who(path)}; wait until it has ended. (`lifelora show {folder}` says what is ready.)"
            )
        yield
    finally:
        os.close(descriptor)


def at_work(folder: Path) -> str | None:
    """The process that is writing in the folder now; None if there is none."""
    try:
        with read(folder):
            return None
    except BusyError:
        return _who(folder / LOCK)


def _locked(descriptor: int, *, exclusive: bool) -> bool:
    if sys.platform == "win32":
        return True
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        say("this file system has no locks: take care that one process at a time works in the folder")
    return True


def _who(path: Path) -> str:
    """By what the owner wrote, which it does right after it has the lock; another process may write anything there."""
    until = time.monotonic() + PATIENCE
    while not (written := path.read_bytes()[:300]) and time.monotonic() < until:
        time.sleep(0.01)
    return "".join(filter(str.isprintable, written.decode(errors="replace"))) or "another lifelora"
