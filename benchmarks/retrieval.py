"""Behaviour retrieval at scale: seconds, rows per second and peak memory of MostSimilar; a log that grows, and one user asked.

    python benchmarks/retrieval.py              MovieLens-1M, simulated logs of 1 M, 5 M and 25 M rows, online
    python benchmarks/retrieval.py --part growth --events 100000 --dimensions 64 --out small.json

Vectors are random: time does not depend on what they hold. Every measurement has a process of its own, so that the peaks
are its own; rows are asked for in chunks, so the answers do not count. The peak holds Python, torch and NumPy (`start_mb`),
the vectors (as they came, sorted, and the distinct ones) and the pages of the log that were read. The loop beside it does
what ReLLa's code does for each row: take the vectors of the past, multiply, sort, keep K. MovieLens-1M is read from
$LIFELORA_DATA/ml-1m. Simulated logs have the shape of MovieLens-25M: lognormal histories of 20 to 32,202 (mean 154), no item
twice, 59,047 items however many users. A part keeps what other parts have left in the file of results.
"""

import argparse
import json
import multiprocessing
import os
import shlex
import statistics
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from lifelora.data.dataset import Dataset
from lifelora.data.extend import Event
from lifelora.data.idmap import IdMap
from lifelora.data.log import EVENT_COLUMNS
from lifelora.data.prepare import Rules, prepare
from lifelora.data.raw import Words
from lifelora.data.sources.movielens import Movielens
from lifelora.retrieval.similar import MostSimilar

PARTS = ("ml-1m", "growth", "online")
K = 30
CHUNK = 100_000
LEAST_HISTORY = 5
ROWS_A_USER, LONGEST, ITEMS = 153.8, 32_202, 59_047


def simulated(rows: int, seed: int, folder: Path) -> Dataset:
    """A prepared log, written as ``prepare`` would."""
    rng = np.random.default_rng(seed)
    users = max(1, round(rows / ROWS_A_USER))
    length_U = np.clip(rng.lognormal(np.log(71), 1.243, users), 20, LONGEST)
    length_U = np.maximum(20, (length_U * (rows / length_U.sum())).astype(np.int64)).clip(max=LONGEST)
    offsets = np.concatenate([[0], length_U.cumsum()])
    n = int(offsets[-1])
    (folder / "events").mkdir(parents=True)
    (folder / "samples").mkdir()
    made = {
        name: np.lib.format.open_memmap(folder / f"events/{name}.npy", mode="w+", dtype=dtype, shape=(n,))
        for name, dtype in EVENT_COLUMNS.items()
    }
    made["user"][:] = np.repeat(np.arange(users), length_U)
    for user in range(users):
        made["item"][offsets[user] : offsets[user + 1]] = rng.choice(ITEMS, length_U[user], replace=False)
    np.save(folder / "events/offsets.npy", offsets)
    chosen = np.flatnonzero(np.arange(n) - offsets[made["user"]] >= LEAST_HISTORY)
    for part, rows_N in (("train", chosen), ("valid", chosen[:0]), ("test", chosen[:0])):
        np.save(folder / f"samples/{part}.npy", rows_N)
    for name, count in (("user", users), ("item", ITEMS)):
        ids = pa.array(np.arange(count).astype(str))
        IdMap.of(ids).save(folder / f"{name}s.parquet")
        pq.write_table(pa.table({name: ids, "title": ids}), folder / f"{'catalogue' if name == 'item' else 'profiles'}.parquet")
    facts = {
        "name": "simulated",
        "has_times": True,
        "rating_levels": [1.0],
        "words": Words().model_dump(),
        "notes": [],
        "label_above": 0.5,
        "keep_from": None,
    }
    (folder / "dataset.json").write_text(json.dumps(facts))
    return Dataset(folder)


def selected(folder: Path, dimensions: int, looped: int, seed: int) -> dict[str, Any]:
    """Of every sample the K most similar behaviours, in chunks; then ``looped`` of them one by one, and compared."""
    torch.set_num_threads(1)
    start, files, dataset = memory("VmHWM"), memory("RssFile"), Dataset(folder)
    rows = np.sort(np.concatenate(list(dataset.samples.values())))
    vectors_ME = vectors(dataset.n_items, dimensions, seed)
    began, cpu = time.perf_counter(), time.process_time()
    chooser, kept = MostSimilar(MostSimilar.Config(k=K), vectors_ME), 0
    for first in range(0, len(rows), CHUNK):
        kept += int(chooser.select(dataset, dataset.targets(rows[first : first + CHUNK]))[1].sum())
    cpu, seconds = time.process_time() - cpu, time.perf_counter() - began
    result = {
        "n": len(rows),
        "users": dataset.n_users,
        "items": dataset.n_items,
        "dimensions": dimensions,
        "chosen": kept,
        "cpu_seconds": round(cpu, 2),
        "seconds": round(seconds, 2),
        "rows_per_cpu_second": round(len(rows) / cpu),
        "peak_mb": round(memory("VmHWM")),
        "start_mb": round(start),
        "log_pages_mb": round(memory("RssFile") - files),
    }
    return result | (beside(dataset, rows, vectors_ME, chooser, looped, seed, cpu / len(rows)) if looped else {})


def beside(
    dataset: Dataset, rows: np.ndarray, vectors_ME: torch.Tensor, chooser: MostSimilar, looped: int, seed: int, ours: float
) -> dict[str, Any]:
    """The loop over drawn rows; what it chooses is compared."""
    drawn = np.sort(np.random.default_rng(seed).choice(rows, looped, replace=False))
    unit_ME = torch.nn.functional.normalize(vectors_ME, dim=1).numpy()
    cpu, found = time.process_time(), []
    for row in drawn:
        first = dataset.log.offsets[dataset.user_N[row]]
        score_H = unit_ME[dataset.item_N[first:row]] @ unit_ME[dataset.item_N[row]]
        found.append(first + np.sort(np.argsort(-score_H)[:K]))
    loop = (time.process_time() - cpu) / looped
    chosen_NK, mask_NK = chooser.select(dataset, dataset.targets(drawn))
    same = sum(chosen_NK[place, mask_NK[place]].tolist() == one.tolist() for place, one in enumerate(found))
    return {
        "loop_n": looped,
        "loop_same_choice": same,
        "loop_us_a_row": round(loop * 1e6, 1),
        "us_a_row": round(ours * 1e6, 2),
        "times_faster": round(loop / ours, 1),
    }


def online(folder: Path, dimensions: int, history: int, calls: int, seed: int) -> dict[str, Any]:
    """Ten events, two of new users and two with new items, come after a prepared log; then one user is asked about.

    The user is the one whose history is nearest to ``history`` behaviours. What all calls look ids up in is made by the first.
    """
    torch.set_num_threads(1)
    dataset = Dataset(folder)
    chooser = MostSimilar(MostSimilar.Config(k=K), vectors(dataset.n_items, dimensions, seed))
    length_U = dataset.log.count(np.arange(dataset.n_users))
    user = int(np.abs(length_U - history).argmin())
    people = [user, *np.random.default_rng(seed).integers(0, dataset.n_users, 7).tolist()]
    names = [*dataset.users.outside(people), "new a", "new b"]
    items = [*dataset.items.outside(np.arange(8)), "new a", "new b"]
    events = [Event(name, item, 1.0, 1) for name, item in zip(names, items, strict=True)]

    def ask(targets: int) -> None:
        chooser.select(grown, grown.candidates(user, np.arange(targets)))

    first = milliseconds(lambda: dataset.extended(events), 1)
    tracemalloc.start()
    grown = dataset.extended(events)
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return {
        "events": len(dataset),
        "users": dataset.n_users,
        "items": dataset.n_items,
        "dimensions": dimensions,
        "n": calls,
        "ms_first": first,
        "ms_extended": milliseconds(lambda: dataset.extended(events), calls),
        "kb_kept": round(kept / 1024, 1),
        "kb_peak": round(peak / 1024, 1),
        "history": int(length_U[user]),
        **{f"ms_{targets}_targets": milliseconds(partial(ask, targets), calls) for targets in (1, 20)},
    }


def milliseconds(call: Callable[[], object], calls: int) -> float:
    """Median CPU time."""
    taken = []
    for _ in range(calls):
        cpu = time.process_time()
        call()
        taken.append((time.process_time() - cpu) * 1e3)
    return round(statistics.median(taken), 3)


def vectors(n_items: int, dimensions: int, seed: int) -> torch.Tensor:
    return torch.randn(n_items, dimensions, generator=torch.Generator().manual_seed(seed))


def memory(what: str) -> float:
    """Resident MB of this process, from Linux's own account: VmHWM is the peak, RssFile the pages of mapped files."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(what)]
    return int(line.split()[1]) / 1024


def alone(function: Any, *args: Any) -> Any:
    """In a fresh process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, args)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=PARTS, nargs="+", default=list(PARTS))
    parser.add_argument("--dimensions", type=int, nargs="+", default=[64, 512])
    parser.add_argument("--events", type=int, nargs="+", default=[1_000_000, 5_000_000, 25_000_000])
    parser.add_argument("--looped", type=int, default=5000, help="events of MovieLens-1M for the loop")
    parser.add_argument("--history", type=int, default=1000, help="behaviours of the user online")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "retrieval.json")
    args = parser.parse_args()
    results = json.loads(args.out.read_text()) if args.out.exists() else {}
    for part in args.part:
        with tempfile.TemporaryDirectory() as temporary:
            measured = []
            if part == "ml-1m":
                source = Movielens(path=str(Path(os.environ["LIFELORA_DATA"]) / "ml-1m"))
                prepare(source.read(), Rules(), Path(temporary) / "ml-1m", "ml-1m")
                measured = [alone(selected, Path(temporary) / "ml-1m", E, args.looped, args.seed) for E in args.dimensions]
            if part == "growth":
                for rows in args.events:
                    folder = Path(temporary) / str(rows)
                    alone(simulated, rows, args.seed, folder)
                    measured.append(alone(selected, folder, args.dimensions[-1], 0, args.seed))
                    print(measured[-1], flush=True)
            if part == "online":
                for rows in args.events:
                    folder = Path(temporary) / str(rows)
                    alone(simulated, rows, args.seed, folder)
                    measured.append(alone(online, folder, args.dimensions[-1], args.history, 200, args.seed))
        results[part] = {
            "command": shlex.join(["python", *sys.argv]),
            "date": datetime.now(UTC).date().isoformat(),
            "seed": args.seed,
            "k": K,
            "threads": 1,
            "results": measured,
        }
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(results, indent=1) + "\n")
        print(json.dumps({part: results[part]}, indent=1), flush=True)


if __name__ == "__main__":
    main()
