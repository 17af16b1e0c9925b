"""How fast the event store takes and gives events, in SQLite and, where a URL is given, in PostgreSQL.

Run ``python benchmarks/store.py [--postgresql URL]``; the URL is of an empty database. A log of drawn events is prepared and
imported; then single events, bulks, and many threads are appended, and histories are read. Rates are by the clock, beside CPU
seconds of this process: appends wait for the disk, whose flush is measured, too. ``--quick`` takes seconds.
"""

import argparse
import json
import os
import platform
import random
import shlex
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa

from lifelora.data.prepare import Rules, prepare
from lifelora.data.raw import RawTables, Words
from lifelora.data.split import LeaveOneOut
from lifelora.serving.store import Form, NewEvent, Store

HERE = Path(__file__)
START = 1_600_000_000


def prepared(folder: Path, n: int, seed: int) -> Path:
    """n events, 166 of a user as in MovieLens-1M, as stage ``1-data`` has them."""
    rng = np.random.default_rng(seed)
    user_N, item_N = np.arange(n) // 166, rng.integers(0, 4000, n)
    time_N = START + np.arange(n) * 7
    log = pa.table(
        {
            "user": [f"user-{u}" for u in user_N],
            "item": [f"item-{i}" for i in item_N],
            "rating": pa.array(rng.integers(1, 6, n), pa.float32()),
            "time": pa.array(time_N, pa.int64()),
        }
    )
    items, users = (sorted(set(log.column(name).to_pylist())) for name in ("item", "user"))
    raw = RawTables(log, pa.table({"item": items, "title": items}), pa.table({"user": users}), Words())
    prepare(raw, Rules(min_history=1, split=LeaveOneOut()), folder, "drawn")
    return folder


def timed(work: Callable[[], int]) -> dict[str, float]:
    """What a piece of work takes for each of the things that it says it did."""
    began, cpu = time.perf_counter(), time.process_time()
    count = work()
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    return {"count": count, "per_second": round(count / seconds, 1), "cpu_microseconds_each": round(1e6 * cpu / count, 1)}


def measured(url: str, data: Path, singles: int, reads: int, seed: int) -> dict[str, dict[str, float]]:
    """Each figure of one database."""
    draw = random.Random(seed)
    with Store.open(url, Form.of(data)) as store:
        found = {"import": timed(lambda: store.import_data(data).events)}
        users = list(store.users())
        numbers = iter(range(10**9))

        def some(n: int) -> list[NewEvent]:
            later = [next(numbers) for _ in range(n)]
            return [NewEvent(draw.choice(users), f"item-{k % 4000}", 4, 1_900_000_000 + k, f"key-{k}") for k in later]

        def appended(bulks: list[list[NewEvent]], threads: int = 1) -> int:
            with ThreadPoolExecutor(threads) as pool:
                return sum(one.new for bulk in pool.map(store.append, bulks) for one in bulk)

        for name, bulks, threads in (
            ("append, one event at a time", [some(1) for _ in range(singles)], 1),
            ("append, one event at a time, 32 threads", [some(1) for _ in range(5 * singles)], 32),
            ("append, bulks of 1000", [some(1000) for _ in range(max(1, singles // 20))], 1),
        ):
            found[name] = timed(lambda bulks=bulks, threads=threads: appended(bulks, threads))  # type: ignore[misc]
        asked = draw.choices(users, k=reads)
        found["read, last 50"] = timed(lambda: sum(len(store.last(user, 50)) > 0 for user in asked))
        found["read, whole histories"] = timed(lambda: sum(len(list(store.history(user))) > 0 for user in asked))
        found["read, all events by number"] = timed(lambda: sum(1 for _ in store.since(0)))
        found["forget a user"] = timed(lambda: len([store.forget(user) for user in users[:2]]))
    return found


def flush(folder: Path, rounds: int) -> float:
    """Milliseconds of one flush of a small write to the disk, below which no single commit can be."""
    descriptor = os.open(folder / "flush", os.O_CREAT | os.O_WRONLY)
    began = time.perf_counter()
    for _ in range(rounds):
        os.write(descriptor, b"x" * 4096)
        os.fsync(descriptor)
    os.close(descriptor)
    return round(1e3 * (time.perf_counter() - began) / rounds, 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--postgresql", help="URL of an empty database")
    parser.add_argument("--quick", action="store_true", help="20,000 events")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="where SQLite's file is made")
    parser.add_argument("--out", type=Path, default=HERE.parent / "results" / "store.json")
    args = parser.parse_args()
    beside = os.getloadavg()[0]
    events, singles, reads = (20_000, 40, 50) if args.quick else (args.events, 1000, 2000)
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        folder = Path(name)
        data = prepared(folder / "data", events, args.seed)
        found: dict[str, object] = {"flush_milliseconds": flush(folder, 50 if args.quick else 300)}
        found["sqlite"] = measured(f"sqlite:///{folder / 'events.db'}", data, singles, reads, args.seed)
        if args.postgresql:
            found["postgresql"] = measured(args.postgresql, data, singles, reads, args.seed)
    words = ["POSTGRESQL" if before == "--postgresql" else word for before, word in zip(["", *sys.argv], sys.argv, strict=False)]
    result = found | {
        "events": events,
        "seed": args.seed,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "processes_that_ran_beside": round(beside, 1),
        "command": shlex.join(["python", *words]),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
