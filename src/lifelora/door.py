"""The one door through which a command ends: what stopped it becomes a message with a mend, and a status. Knows no command."""

import errno
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from types import FrameType

from lifelora.errors import LifeloraError, PeerError, harmless
from lifelora.progress import speaks

LINE, LINES = 600, 60
"""Longer messages are cut: to so many characters a line, and so many lines."""
GO_ON = "then run the same command again: it goes on from where it was"
MENDS = {
    errno.ENOSPC: f"the disk is full; make room, {GO_ON}",
    errno.EDQUOT: f"your share of the disk is used up; make room, {GO_ON}",
    errno.EFBIG: f"files cannot be so large here (see `ulimit -f`); raise the limit, {GO_ON}",
    errno.EROFS: "nothing can be written there; choose another place",
    errno.EACCES: "you have no permission; change the permissions, or choose another place",
    errno.EPERM: "you have no permission; change the permissions, or choose another place",
    errno.EMFILE: "too many files are open; raise the limit (`ulimit -n`)",
    errno.ENAMETOOLONG: "the name is too long for this file system; choose a shorter one",
    errno.EIO: "the disk failed; copy what you need to another one",
    errno.ENOENT: "it is not there (any more); check the path",
    errno.EISDIR: "there is a folder where a file belongs; move it away",
    errno.ENOTDIR: "there is a file where a folder belongs; move it away",
}


class Terminated(KeyboardInterrupt):
    """SIGTERM: it stops as Ctrl-C does."""


def through(handler: Callable[[], int], words: Sequence[str]) -> int:
    """The exit status of ``handler``, which the command line ``words`` asked for. What stops it is written to standard error."""
    for stream in (sys.stdout, sys.stderr):
        # A title that the terminal cannot show stops nothing.
        if callable(reconfigure := getattr(stream, "reconfigure", None)):
            reconfigure(errors="backslashreplace")
    if wrong := next((word for word in words if not _is_text(word)), None):
        return _told(f"{wrong!a} is not valid UTF-8; give ids and names of files as UTF-8 (rename the file).")
    before = _stop_at_sigterm()
    try:
        status = handler()
        sys.stdout.flush()
        return status
    except PeerError as error:
        return 1 if error.told else _told(str(error))
    except LifeloraError as error:
        return _told(str(error))
    except KeyboardInterrupt as stop:
        sys.stderr.write("\nlifelora: stopped; run the same command again to go on from here.\n")
        return 128 + (signal.SIGTERM if isinstance(stop, Terminated) else signal.SIGINT)
    except BrokenPipeError:  # `| head`: the reader has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except OSError as error:
        return _told(in_words(error))
    except RuntimeError as error:
        if type(error).__name__ != "OutOfMemoryError":  # torch's, of a GPU
            raise
        return _told(
            "the GPU has not enough memory. Where a model is asked, lower --tokens-at-once; where it is trained, raise "
            f"training.accumulation or give --checkpointing; {GO_ON}. ({str(error).splitlines()[0]})"
        )
    except MemoryError as error:
        return _told(
            f"there is not enough memory ({str(error).strip() or 'none is left'}). Close other programs, lower "
            f"training.batch_size, or use a machine with more memory, {GO_ON}."
        )
    finally:
        if before is not None:
            signal.signal(signal.SIGTERM, before)


def in_words(error: OSError) -> str:
    """What the system refused, where, and the mend."""
    places = " to ".join(repr(os.fsdecode(name)) for name in (error.filename, error.filename2) if isinstance(name, str | bytes))
    what = error.strerror or str(error).strip() or type(error).__name__
    mend = MENDS.get(error.errno or 0, f"repair that, {GO_ON}")
    return f"{places or 'the system'}: {what}. Mend: {mend}."


def cut(message: str) -> str:
    """A message of a readable length."""
    lines = [
        line if len(line) <= LINE else f"{line[:LINE]} … ({len(line) - LINE:,} more characters)" for line in message.split("\n")
    ]
    return "\n".join(lines if len(lines) <= LINES else [*lines[:LINES], f"… ({len(lines) - LINES:,} more lines)"])


def _told(message: str) -> int:
    # Until processes have joined, what ends one ends all alike, and the first says it.
    joined = (module := sys.modules.get("torch.distributed")) is not None and module.is_initialized()
    if speaks() or joined:
        sys.stderr.write(f"lifelora: {cut(harmless(message))}\n")
    return 1


def _is_text(word: str) -> bool:
    try:
        word.encode()
    except UnicodeEncodeError:
        return False
    return True


def _stop_at_sigterm() -> Callable[[int, FrameType | None], object] | int | None:
    """From here on SIGTERM raises ``Terminated``; what was done before, None where a thread may not say so."""
    if threading.current_thread() is not threading.main_thread():
        return None

    def stop(number: int, frame: FrameType | None) -> None:
        raise Terminated

    return signal.signal(signal.SIGTERM, stop)
