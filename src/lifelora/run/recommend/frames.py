"""Recommendations for the users of a frame or a column, as a frame of that kind. Knows no scorer."""

from collections.abc import Sequence
from pathlib import Path

from lifelora.data.values import as_text
from lifelora.errors import ConfigError
from lifelora.frames import AnyColumn, AnyFrame, Frame, column_of, like
from lifelora.owner import read
from lifelora.run.context import Options
from lifelora.run.recommend.cold import POPULARITY, Cold
from lifelora.run.recommend.many import many
from lifelora.run.run import Run


def recommend(
    run: Run | str | Path,
    users: AnyFrame | AnyColumn | str | None = None,
    k: int = 10,
    *,
    user: str = "user",
    system: str | None = None,
    among: AnyColumn | None = None,
    where: Sequence[str] = (),
    allow_seen: bool = False,
    cold: Cold = POPULARITY,
    device: str = "auto",
) -> AnyFrame:
    """The ``k`` best items for each user: user, rank, item, title, score, and how (by history, profile or popularity).

    ``run`` is open, or the folder of a finished one, which is opened on ``device``. ``users`` are a frame with the column
    ``user``, a Series, an array, a list of ids, one id, or None for all; a user who is named again counts once. The rows come
    as a frame of the kind that was given, and as pyarrow's for a list. ``among`` (a column of items), ``where`` ("brand=Argo"),
    ``allow_seen`` and ``cold`` are those of `lifelora recommend`.

    Raises ConfigError for what is neither frame nor column and for a missing id, and DataError for unknown ids.
    """
    ids = None if users is None else [users] if isinstance(users, str) else _ids(_column(users, user), "users")
    items = None if among is None else _ids(among, "among")
    if not isinstance(run, Run):
        folder = Path(run)
        with read(folder):
            opened = Run.open(folder, Options(device=device, progress=False))
            table = many(opened, ids, k, system=system, among=items, where=where, allow_seen=allow_seen, cold=cold)
    else:
        table = many(run, ids, k, system=system, among=items, where=where, allow_seen=allow_seen, cold=cold)
    return like(users, table)


def _column(users: AnyFrame | AnyColumn, name: str) -> AnyColumn:
    return Frame(users, "users").column(name) if hasattr(type(users), "columns") else users


def _ids(values: AnyColumn, called: str) -> list[str]:
    """Each id as a text, once, in the order in which they come."""
    ids = as_text(column_of(values, called)).to_pylist()
    if not all(isinstance(one, str) and one.strip() for one in ids):
        raise ConfigError(
            f"{called} lack {sum(not (isinstance(one, str) and one.strip()) for one in ids):,} ids; drop these rows."
        )
    return list(dict.fromkeys(one.strip() for one in ids))
