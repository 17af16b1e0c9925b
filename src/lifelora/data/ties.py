"""The order of the events that a user has at one time. Knows ids and times, and neither ratings nor files.

Clocks tick in seconds, and logs often in days, so nothing says which of several events came first. An order by item would tell
the next one: it is the next larger id. So an order is drawn, by what an event is and not by where it stands:

    key(e) = mix(mix(h(user) ^ time) ^ h(item)),  h = BLAKE2b of the id, keyed by the seed,  mix = SplitMix64's last step

The same events have the same order in every log, whatever else is in it, so that a log that grew reads as one prepared whole.
Only events that are tied are hashed: most logs have few of them.
"""

import hashlib
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Int, Shaped, UInt64

from lifelora.data.idmap import IdMap
from lifelora.seeds import derive
from lifelora.types import Frozen

ORDERS = {
    "drawn": "their order is drawn (data.rules.ties = 'drawn').",
    "file": "their order is that of the file (data.rules.ties = 'file').",
    "item": "their order is that of item ids (data.rules.ties = 'item'), so the next item is often the next larger id.",
}


class Ties(Frozen):
    """What orders events of one user and time."""

    ties: Literal["drawn", "file", "item"] = "drawn"
    """Events of one user at one time stand in an order that is drawn, in the order of the file, or in that of item ids, as in
    ReLLa's protocol: there the next item is often the next larger id."""
    ties_seed: int = 0
    "What draws it."

    @classmethod
    def kept(cls, facts: Mapping[str, Any]) -> "Ties":
        """As a prepared folder says; one that was made before there was a rule has the order of items."""
        return cls(ties=facts.get("ties", "item"), ties_seed=facts.get("ties_seed", 0))


def keys(
    rule: Ties,
    user_N: Int[np.ndarray, "N"],
    item_N: Int[np.ndarray, "N"],
    time_N: Int[np.ndarray, "N"],
    users: IdMap,
    items: IdMap,
) -> Int[np.ndarray, "N"] | UInt64[np.ndarray, "N"]:
    """Numbers by which events of one user and time stand, the smaller first; events come in the order of their file."""
    match rule.ties:
        case "item":
            return item_N
        case "file":
            return np.arange(len(item_N))
        case "drawn":
            secret = derive(rule.ties_seed, "ties").to_bytes(8, "big")
            key_N = _mixed(_hashed(users, user_N, secret) ^ time_N.astype(np.uint64))
            return _mixed(key_N ^ _hashed(items, item_N, secret))


def draw(
    rule: Ties, events: Mapping[str, Shaped[np.ndarray, "N"]], late_N: Int[np.ndarray, "N"] | None, users: IdMap, items: IdMap
) -> None:
    """Put events of one user and time in their drawn order, in place; they come by user, time and, where it is given, ``late_N``.

    Equal keys stay as they stand: of one item, by whatever else they came by.
    """
    by = [events["user"], events["time"], *([] if late_N is None else [late_N])]
    rows = np.flatnonzero(tied(*by))
    if not len(rows):
        return
    user_T, time_T, item_T = (events[name][rows] for name in ("user", "time", "item"))
    run_T = np.append(0, np.cumsum(~_as_before(*(column_N[rows] for column_N in by))))
    order = rows[by_run_and_key(run_T, keys(rule, user_T, item_T, time_T, users, items).astype(np.uint64))]
    for column_N in events.values():
        column_N[rows] = column_N[order]


def by_run_and_key(run_T: Int[np.ndarray, "T"], key_T: UInt64[np.ndarray, "T"]) -> Int[np.ndarray, "T"]:
    """Places in the order of runs (0 and more, ascending) and, in each, of keys; equals as they stand.

    A run's number and what is left of 64 bits for the key make one number, which sorts ten times as fast as two.
    """
    bits = np.uint64(max(1, int(run_T[-1]).bit_length()))
    both_T = run_T.astype(np.uint64) << (np.uint64(64) - bits) | key_T >> bits
    order = np.argsort(both_T, kind="stable")
    sorted_T, equal = key_T[order], _as_before(both_T[order])
    if (equal & (sorted_T[1:] < sorted_T[:-1])).any():  # keys of one run that differ in their last bits alone
        order = np.lexsort((key_T, run_T))
    return order


def tied(*columns_N: Shaped[np.ndarray, "N"]) -> Bool[np.ndarray, "N"]:
    """Which events, sorted by these columns (user, time), have a neighbour with the same values."""
    same = _as_before(*columns_N)
    return np.asarray(np.append(same, False) | np.append(False, same))


def told_of(shares: Mapping[str, float], rule: Ties) -> list[str]:
    """A note of how many targets of each part are tied."""
    if not any(shares.values()):
        return []
    parts = ", ".join(f"{share:.0%} of {part}" for part, share in shares.items())
    return [f"clock ties: {parts} targets have another event of their user at the same time; {ORDERS[rule.ties]}"]


def _as_before(*columns_N: Shaped[np.ndarray, "N"]) -> Bool[np.ndarray, "_"]:
    """Of each row but the first, whether all columns say what they say in the row before it."""
    return np.asarray(np.logical_and.reduce([column_N[1:] == column_N[:-1] for column_N in columns_N]))


def _hashed(ids: IdMap, index_N: Int[np.ndarray, "N"], secret: bytes) -> UInt64[np.ndarray, "N"]:
    found = pa.array(index_N).dictionary_encode()
    names = ids.outside(found.dictionary.to_numpy())
    digests = b"".join(hashlib.blake2b(name.encode(), digest_size=8, key=secret).digest() for name in names)
    return np.asarray(np.frombuffer(digests, ">u8").astype(np.uint64)[found.indices.to_numpy()])


def _mixed(bits_N: UInt64[np.ndarray, "N"]) -> UInt64[np.ndarray, "N"]:
    bits_N = (bits_N ^ (bits_N >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)  # modulo 2^64
    bits_N = (bits_N ^ (bits_N >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(bits_N ^ (bits_N >> np.uint64(31)))
