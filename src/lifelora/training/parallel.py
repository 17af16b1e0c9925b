"""The processes that torchrun starts, as one: who is the first, waiting, joining, ending. Knows no loop and no stage.

One process is a world of one, for which nothing is started. Of several, each knows its place from ``RANK`` and ``WORLD_SIZE``.
Arrays are joined by gloo. Waiting goes through torchrun's own store, so that it may take hours, and so that an error of one
process reaches those who wait for it.
"""

import atexit
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from typing import Any, TypeVar

import torch
from torch import distributed
from torch.distributed import PrefixStore  # type: ignore[attr-defined]
from torch.distributed.rendezvous import rendezvous

from lifelora.errors import LifeloraError, PeerError

Value = TypeVar("Value")

FAILED = "failed"
PATIENCE = timedelta(minutes=30)
"""How long a process waits for another in the midst of work that all share, before it says that the other is lost."""
LOST = re.compile("gloo|NCCL|[Cc]onnection|store", re.ASCII)
"""In an error's text: a connection to another process broke."""

_alone = False
_meetings = 0


def processes() -> int:
    """How many were started."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def world() -> int:
    """How many processes work together just now."""
    return 1 if _alone else processes()


def rank() -> int:
    """Which of them this is, from 0."""
    return int(os.environ.get("RANK", "0")) if world() > 1 else 0


def is_main() -> bool:
    """Whether this is the first: the one that writes and speaks."""
    return rank() == 0


def start() -> None:
    """Join the other processes; nothing where there are none, or where this one has joined them."""
    if world() > 1:
        _store()


@cache
def _store() -> Any:
    """What the processes tell one another; joining is done once, and undone when this process ends."""
    store, rank, world = next(rendezvous("env://", timeout=PATIENCE))
    gpus = torch.cuda.is_available()
    if gpus:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    if not distributed.is_initialized():
        distributed.init_process_group(
            "cpu:gloo,cuda:nccl" if gpus else "gloo",
            timeout=PATIENCE,
            rank=rank,
            world_size=world,
            store=PrefixStore("group", store),
        )
        atexit.register(_leave)
    return PrefixStore("lifelora", store)


def _leave() -> None:
    if distributed.is_initialized():
        distributed.destroy_process_group()


def gathered(value: Value) -> list[Value]:
    """The values of all processes, in their order, in each of them; nothing is rounded."""
    if world() == 1:
        return [value]
    start()
    values: list[Any] = [None] * world()
    distributed.all_gather_object(values, value)
    return values


def agreed(value: Value) -> Value:
    """The first process's value, in all of them."""
    return gathered(value if is_main() else None)[0]  # type: ignore[return-value]


def by_itself() -> bool:
    """Whether this process works in a block of ``by_the_first``, so that the others wait."""
    return _alone


@contextmanager
def by_the_first() -> Iterator[bool]:
    """True in the first process, which works in the block as if it were alone; False in the others, which wait until it has.

    Its error ends the others with a PeerError.
    """
    global _alone
    if world() == 1:
        yield True
        return
    meeting = _next_meeting()
    if not is_main():
        yield False
        _wait(f"{meeting}/0")
        return
    with ending_together():
        _alone = True
        try:
            yield True
        finally:
            _alone = False
    _store().set(f"{meeting}/0", "done")


@contextmanager
def together() -> Iterator[None]:
    """All processes work in the block, and none leaves it before all have come to its end; the error of one ends all."""
    if world() == 1:
        yield
        return
    meeting = _next_meeting()
    with ending_together():
        yield
    _store().set(f"{meeting}/{rank()}", "done")
    _wait(*(f"{meeting}/{other}" for other in range(world())))


def _next_meeting() -> int:
    """Every process comes to the same meetings in the same order."""
    global _meetings
    _store()
    _meetings += 1
    return _meetings


@contextmanager
def ending_together() -> Iterator[None]:
    """An error in the block is told to the others; one that only follows from another process's end is a PeerError."""
    if world() == 1:
        yield
        return
    try:
        yield
    except PeerError:
        raise
    except LifeloraError as error:
        _tell(str(error))
        raise
    except BaseException as error:
        lost = isinstance(error, RuntimeError) and LOST.search(str(error))
        if lost:
            _raise_if_failed(error)
            raise PeerError(
                f"process {rank() + 1} of {world()} lost another process, which was killed or did not answer for "
                f"{PATIENCE} ({str(error).splitlines()[0]})."
            ) from error
        _tell(f"{type(error).__name__}: {error}")
        raise


def _tell(message: str) -> None:
    _store().set(FAILED, f"process {rank() + 1} of {world()} ended: {message}")


def _raise_if_failed(error: BaseException | None = None) -> None:
    if _store().check([FAILED]):
        raise PeerError(_store().get(FAILED).decode(), told=True) from error


def _wait(*keys: str) -> None:
    """Until all keys are there; in steps, so that Ctrl-C and another's error are noticed."""
    pause = 0.001
    while not _store().check(list(keys)):
        _raise_if_failed()
        time.sleep(pause)
        pause = min(2 * pause, 0.2)
