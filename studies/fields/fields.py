r"""What the fields of a catalogue are worth to a language model: a shop with opaque titles, and what its runs tell.

    python studies/fields/fields.py shop runs/shop
    python studies/fields/fields.py tell runs/shop --fields runs/fields-0 runs/fields-1 --titles runs/titles-0 runs/titles-1 \
      --words runs/words-0 runs/words-1 --out studies/fields/results.json --picture studies/fields/auc.png

The shop is the simulated world, whose titles ("Lighthouse of Silly Curses") tell mood and place. Here they are "Book 12", so that
genre, mood and place stand in the fields alone.
"""

import argparse
import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv

from lifelora.data.sources.simulated import Simulated
from lifelora.evaluation.jackknife import Jackknifed, Scored, jackknife
from lifelora.evaluation.significance import estimate, paired_test
from lifelora.evaluation.tables import p_value, with_span
from lifelora.run import Run
from lifelora.run.tasks.ctr import Ctr
from lifelora.study import tell

LOG = 'interactions = "interactions.csv"\ncatalogue = "items.csv"\nprofiles = "users.csv"\n'
WORDS = '[columns]\ntime = "time"\n[words]\nitem = "book"\nitems = "books"\ndid = "read"\n'
MAPPED = {
    "titles": 'user_fields = ["gender", "age"]\n',
    "shop": 'description = "description"\nitem_fields = ["genre"]\nuser_fields = ["gender", "age"]\n',
    "words": 'item_fields = ["genre", "words"]\nuser_fields = ["gender", "age"]\nlists = { words = " " }\n',
}
"""Three ways to map the same tables; in the last one a description's words are a field, for conventional models."""
IN_ALL = {"a", "and", "tale", "of", "from", "to"}
"""Words that stand in every description."""
SYSTEMS = {
    "LM, fields in every line": ("fields", "everywhere"),
    "LM, fields in question": ("fields", "question"),
    "LM, titles alone": ("fields", "titles"),
    "LM, no field ever seen": ("titles", "titles"),
    "DIN, genre and words": ("words", "din"),
    "DIN, genre": ("fields", "din"),
    "DIN, ids alone": ("titles", "din"),
    "popularity": ("fields", "popularity"),
}
"""What a system is called, the runs that it stands in, and its name there."""
PAIRS = (
    ("LM, fields in question", "LM, titles alone"),
    ("LM, fields in every line", "LM, titles alone"),
    ("LM, fields in every line", "LM, fields in question"),
    ("LM, fields in question", "LM, no field ever seen"),
    ("LM, fields in every line", "LM, no field ever seen"),
    ("LM, titles alone", "LM, no field ever seen"),
    ("LM, fields in every line", "DIN, genre and words"),
    ("LM, fields in every line", "DIN, ids alone"),
    ("DIN, genre", "DIN, ids alone"),
    ("DIN, genre and words", "DIN, ids alone"),
)


def shop(folder: Path, world: Simulated) -> None:
    """Write the tables, and a file for each way to map them."""
    raw = world.read()
    texts = [set(re.findall(r"[a-z]+", text.lower())) - IN_ALL for text in raw.catalogue.column("description").to_pylist()]
    items = raw.catalogue.set_column(1, "title", pa.array([f"Book {number}" for number in range(len(texts))]))
    items = items.append_column("words", pa.array([" ".join(sorted(words)) for words in texts]))
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in (("interactions", raw.interactions), ("items", items), ("users", raw.profiles)):
        pyarrow.csv.write_csv(table, folder / f"{name}.csv")
    for name, mapped in MAPPED.items():
        (folder / f"{name}.toml").write_text(LOG + mapped + WORDS)
    (folder / "world.json").write_text(world.model_dump_json())


def new_items(run: Run) -> np.ndarray:
    """For each test sample, whether nothing that training may look at is about its item."""
    dataset = run.context.dataset
    seen = np.unique(dataset.item_N[dataset.training_events()])
    return ~np.isin(dataset.targets(run.context.test_samples).item_B, seen)


def judged(runs: Sequence[Run], scored: Sequence[Scored]) -> dict[str, tuple[Jackknifed, str]]:
    """A system's scores in its runs, judged in three ways, each with its metric."""
    every = jackknife(scored, ("auc", "gauc"))
    new = jackknife([one.where(new_items(run)) for one, run in zip(scored, runs, strict=True)], ("auc",))
    return {"AUC": (every, "auc"), "AUC, new items": (new, "auc"), "GAUC": (every, "gauc")}


def scores(runs: Sequence[Run], name: str) -> list[Scored]:
    """Of a system in each run."""
    return [run.task.scored(name) for run in runs if isinstance(run.task, Ctr)]


def truth(run: Run, world: Simulated) -> Scored:
    """The world's own probabilities of the test samples: no model can be expected above them."""
    dataset, rows_B = run.context.dataset, run.context.test_samples
    targets = dataset.targets(rows_B)
    users, items = dataset.users.outside(targets.user_B), dataset.items.outside(targets.item_B)
    chance_B = world.probability(users, items, np.asarray(dataset.time_N[rows_B]))
    return Scored(targets.user_B, targets.item_B, targets.label_B, chance_B)


def main() -> None:
    """Make the shop, or print the tables and write the file and the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    making = commands.add_parser("shop")
    making.add_argument("folder", type=Path)
    making.add_argument("--users", type=int, default=400)
    making.add_argument("--items", type=int, default=400)
    making.add_argument("--events", type=int, default=80)
    telling = commands.add_parser("tell")
    telling.add_argument("folder", type=Path)
    for name in ("fields", "titles", "words"):
        telling.add_argument(f"--{name}", type=Path, nargs="+", required=True)
    telling.add_argument("--out", type=Path, required=True)
    telling.add_argument("--picture", type=Path)
    said = parser.parse_args()
    if said.command == "shop":
        shop(said.folder, Simulated(users=said.users, items=said.items, events_per_user=said.events))
        return
    runs = {group: tell.opened(getattr(said, group)) for group in ("fields", "titles", "words")}
    first, world = runs["fields"], Simulated.model_validate_json((said.folder / "world.json").read_text())
    found = {name: judged(runs[group], scores(runs[group], system)) for name, (group, system) in SYSTEMS.items()}
    found["the truth"] = judged(first, [truth(run, world) for run in first])
    figures = {name: {how: estimate(*one) for how, one in by.items()} for name, by in found.items()}
    minus = {
        f"{a} minus {b}": {how: paired_test(one, found[b][how][0])[metric] for how, (one, metric) in found[a].items()}
        for a, b in PAIRS
    }
    head = ["", *figures["the truth"]]
    print(tell.markdown(head, {name: list(map(with_span, by.values())) for name, by in figures.items()}), "\n")
    print(tell.markdown(head, {name: [f"{with_span(d)}, {p_value(d.p)}" for d in by.values()] for name, by in minus.items()}))
    tell.write(
        said.out,
        tell.origin([run.recipe.seed for run in first])
        | tell.about(first)
        | {
            "world": world.model_dump(),
            "rows_hash": [one.rows_hash() for one in scores(first, "titles")],
            "test samples about new items": [int(new_items(run).sum()) for run in first],
            "figures": {
                name: {
                    how: asdict(figure) | {"by seed": found[name][how][0].by_run[found[name][how][1]]}
                    for how, figure in by.items()
                }
                for name, by in figures.items()
            },
            "minus": {name: {how: asdict(d) for how, d in by.items()} for name, by in minus.items()},
        },
    )
    if said.picture:
        drawn = {name: by["AUC"] for name, by in figures.items() if name != "the truth"}
        colours = {name: 0 if name.startswith("LM") else 1 for name in drawn}
        seeds = len(first)
        tell.draw_forest(said.picture, drawn, f"AUC, mean of {seeds} seeds, with its interval over users and seeds", colours)


if __name__ == "__main__":
    main()
