"""CPU seconds and memory to read and check a user's own log, by the format of its file, on one thread.

Run ``python benchmarks/reading.py``. The log is drawn from a seed and written in each format. Every reading is a process of its
own, so that its memory is; the formats take turns. DuckDB, which takes JSON apart, has two threads: seconds are those of both.
"""

import argparse
import gzip
import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

HERE = Path(__file__)
FORMATS = {
    "csv": "log.csv",
    "csv, twelve columns": "wide.csv",
    "csv, quoted": "quoted.csv",
    "csv, two signs": "signs.txt",
    "csv.gz": "log.csv.gz",
    "parquet": "log.parquet",
    "jsonl": "log.jsonl",
}


def write(folder: Path, n: int, seed: int) -> None:
    """The same n rows in every format, a hundred of a user and forty of an item."""
    rng = np.random.default_rng(seed)
    table = pa.table(
        {
            "user": [f"c{user}" for user in rng.integers(0, max(2, n // 100), n)],
            "item": [f"A-{item}" for item in rng.integers(0, max(2, n // 40), n)],
            "rating": rng.integers(1, 6, n),
            "time": 1_600_000_000 + rng.permutation(n) * 10,
        }
    )
    plain = pacsv.WriteOptions(quoting_style="none", quoting_header="none")
    pacsv.write_csv(table, folder / "log.csv", plain)
    more = {f"other{at}": table.column("item") for at in range(8)}
    pacsv.write_csv(pa.table(dict(zip(table.column_names, table.columns, strict=True)) | more), folder / "wide.csv", plain)
    pacsv.write_csv(table, folder / "quoted.csv", pacsv.WriteOptions(quoting_style="all_valid"))
    text = (folder / "log.csv").read_bytes()
    (folder / "signs.txt").write_bytes(text.replace(b",", b"::"))
    (folder / "log.csv.gz").write_bytes(gzip.compress(text, 6))
    pq.write_table(table, folder / "log.parquet")
    cells = [pc.cast(column, pa.string()) for column in table.columns]
    keys = ['{"user": "', '", "item": "', '", "rating": ', ', "time": ', "}\n"]
    lines = pc.binary_join_element_wise(*(part for pair in zip(keys, [*cells, ""], strict=True) for part in pair), "")
    (folder / "log.jsonl").write_text("".join(lines.to_pylist()))


def read(path: str) -> dict[str, float]:
    """What one reading takes, in this process."""
    from lifelora.data.sources.tables import Tables

    source = Tables.model_validate({"interactions": path, "columns": {"time": "time"}})
    before, began = peak(), time.process_time()
    rows = len(source.read().interactions)
    return {"rows": rows, "seconds": time.process_time() - began, "megabytes": peak() - before}


def peak() -> float:
    """Megabytes that this process had at most; what getrusage says begins with those of the process before it."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--read", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=HERE.parent / "results" / "reading.json")
    args = parser.parse_args()
    if args.read:
        print(json.dumps(read(args.read)))
        return
    found: dict[str, list[dict[str, float]]] = {name: [] for name in FORMATS}
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), args.rows, args.seed)
        sizes = {name: (Path(folder) / file).stat().st_size for name, file in FORMATS.items()}
        for _ in range(args.rounds):
            for name, file in FORMATS.items():
                command = [sys.executable, str(HERE), "--read", str(Path(folder) / file)]
                said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
                found[name].append(json.loads(said))
    for name, ones in found.items():
        assert {one["rows"] for one in ones} == {args.rows}, name
    result = {
        name: {
            "cpu_seconds_median": round(statistics.median(one["seconds"] for one in ones), 2),
            "cpu_seconds_range": [round(end(one["seconds"] for one in ones), 2) for end in (min, max)],
            "peak_megabytes_more": round(statistics.median(one["megabytes"] for one in ones)),
            "bytes_of_file": sizes[name],
        }
        for name, ones in found.items()
    } | {
        "rows": args.rows,
        "rounds": args.rounds,
        "seed": args.seed,
        "command": shlex.join(["python", *sys.argv]),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "threads": 1,
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
