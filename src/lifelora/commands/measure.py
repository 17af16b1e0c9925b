"""`lifelora measure` and `lifelora samples`: figures of scores from elsewhere, alone or beside a run's systems."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from lifelora.commands.opening import reading, say
from lifelora.commands.words import Add, finished

if TYPE_CHECKING:
    from lifelora.data.rows import Rows
    from lifelora.evaluation.predictions import Names


def add(command: Add) -> None:
    """measure and samples."""
    sub = command("measure", "Measure scores that stand in a file: figures, intervals, paired tests.", handle)
    sub.add_argument("file", metavar="FILE", help="Parquet, CSV or JSON lines, with a row for each sample; may be packed.")
    sub.add_argument("--score", nargs="+", default=[], metavar="COLUMN", help="A column of scores for each system.")
    sub.add_argument("--rank", nargs="+", default=[], metavar="COLUMN", help="Or of ranks of the right item, from 1.")
    sub.add_argument("--target", metavar="COLUMN", help="Where scores are lists: which is the right item's, from 0.")
    sub.add_argument("--label", default="label", metavar="COLUMN", help="0 or 1. By default 'label'.")
    sub.add_argument("--user", default="user", metavar="COLUMN", help="By default 'user'.")
    sub.add_argument("--item", metavar="COLUMN", help="Needed with --run, where it is 'item' by default.")
    sub.add_argument("--time", metavar="COLUMN", help="With --run. By default 'time', where there is one.")
    sub.add_argument("--minus", metavar="COLUMN", help="Test every other system against this one.")
    sub.add_argument("--run", type=Path, metavar="RUN", help="Measure beside this run's systems, on its test samples.")
    sub.add_argument("--json", action="store_true", help="Print JSON.")

    sub = command("samples", "Write the samples of a run, for models of other libraries to score or learn from.", samples)
    finished(sub)
    sub.add_argument("--part", default="test", choices=("train", "valid", "test"), help="By default test.")
    sub.add_argument("--out", type=Path, required=True, metavar="FILE", help="A new file: .parquet or .csv.")


def handle(arguments: argparse.Namespace) -> int:
    """Read, measure, compare, print."""
    from lifelora.evaluation.predictions import Names

    names = Names(
        user=arguments.user,
        item=arguments.item or ("item" if arguments.run else None),
        label=arguments.label,
        scores=tuple(arguments.score or ([] if arguments.rank else ["score"])),
        ranks=tuple(arguments.rank),
        target=arguments.target,
    )
    notes: list[str] = []
    rows = _rows(arguments, names, notes)
    if arguments.run:
        from lifelora.study.others import beside

        with reading(arguments, arguments.run) as (run,):
            time = arguments.time or ("time" if "time" in rows.table.column_names else None)
            found = beside(run, rows, names, time, notes)
    else:
        from lifelora.data.rows import Problems
        from lifelora.evaluation.evaluate import measure
        from lifelora.evaluation.predictions import read_predictions

        problems = Problems()
        predictions = read_predictions(rows, names, problems)
        problems.refuse()
        assert predictions is not None
        found = measure(predictions)
    differences = found.minus(arguments.minus) if arguments.minus else None
    if arguments.json:
        values = found.as_json() | ({"differences": differences.as_json()} if differences else {}) | {"notes": notes}
        say(json.dumps(values, indent=1, ensure_ascii=False))
    else:
        parts = [str(found), *([str(differences)] if differences else []), *(f"note: {note}" for note in notes)]
        say("\n\n".join(parts))
    return 0


def samples(arguments: argparse.Namespace) -> int:
    """Write a file."""
    import pyarrow.csv
    import pyarrow.parquet

    from lifelora.errors import ConfigError

    kind = arguments.out.suffix
    if kind not in (".parquet", ".csv"):
        raise ConfigError(f"--out {arguments.out} ends neither in .parquet nor in .csv; choose one of them.")
    if arguments.out.exists():
        raise ConfigError(f"--out {arguments.out} is there already; move it away, or choose another name.")
    from lifelora.study.others import samples as samples_of

    with reading(arguments, arguments.run) as (run,):
        table = samples_of(run, arguments.part)
    if kind == ".csv" and "candidates" in table.column_names:
        raise ConfigError("candidates are lists, which a CSV does not hold; write a .parquet.")
    (pyarrow.parquet.write_table if kind == ".parquet" else pyarrow.csv.write_csv)(table, arguments.out)
    said = {"user": "user", "item": "item", "time": "time", "label": "label"}
    systems = [name for name in table.column_names if name not in (*said, "candidates")]
    say(f"{len(table):,} {arguments.part} samples in {arguments.out}: {', '.join(table.column_names)}")
    if systems:
        say(f"Next:\n  lifelora measure {arguments.out} --score {' '.join(systems)}")
    return 0


def _rows(arguments: argparse.Namespace, names: "Names", notes: list[str]) -> "Rows":
    """The columns that are asked for."""
    from lifelora.data.reading import read
    from lifelora.data.rows import Meaning, Problems
    from lifelora.data.written import Form, located

    wanted: dict[str, Meaning] = dict.fromkeys((*names.scores, *names.ranks), "field" if names.target else "number")
    wanted |= {
        name: "number" for name in (names.label, names.target) if name is not None and not (name == names.label and names.ranked)
    }
    wanted |= {name: "id" for name in (names.user, names.item) if name is not None}
    wanted |= {arguments.time or "time": "word"} if arguments.run else {}
    problems = Problems()
    rows = read(located(arguments.file, Form()), wanted, problems, notes)
    problems.refuse()
    assert rows is not None, "a file without rows is a problem"
    return rows
