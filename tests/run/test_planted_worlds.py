"""Two planted worlds: in one the order of behaviours is all there is to know, in the other the words of titles are.

A control takes the one or the other away, so in its world it can only guess, and the report says what it was worth.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from lifelora.data.sources import parse_source
from lifelora.recipe.files import parse
from lifelora.run import Options, Run

pytestmark = pytest.mark.slow
COLOURS = ("red", "green", "blue")
USERS, EVENTS, K = 60, 30, 3
TEMPLATE = {"kind": "plain", "behaviour": "{title}", "question": ["Would they like {title}?"]}
TRAINING = {"batch_size": 32, "epochs": 4, "learning_rate": 1e-2}
SYSTEM = {
    "template": TEMPLATE,
    "behaviours": {"kind": "most-recent", "k": K},
    "coupling": {"kind": "identity", "rank": 8},
    "train_samples": 1000,
    "validation_samples": 100,
    "training": TRAINING,
}
NANO = {"kind": "nano", "width": 32, "layers": 2, "heads": 2, "vocabulary": 300, "behaviours": K + 1, "template": TEMPLATE}


def world(folder: Path, rows: list[tuple[int, int, bool]], titles: list[str]) -> str:
    """Rows (user, item, liked), one a second."""
    lines = [f"u{u},i{i},{5 if liked else 1},{1_600_000_000 + second}" for second, (u, i, liked) in enumerate(rows)]
    (folder / "interactions.csv").write_text("\n".join(["user,item,rating,time", *lines]))
    (folder / "items.csv").write_text("\n".join(["item,title", *(f"i{i},{title}" for i, title in enumerate(titles))]))
    return f"tables:{folder}"


def of_order(folder: Path) -> str:
    """Colours go round, for half of the users forwards, who like everything, for the others backwards, who like nothing.

    Any three events in a row have all three colours, and the next one has the colour of the first of them. So the set that is
    shown and the target are the same for both kinds of users.
    """
    rows = [(u, (u + (1 if u % 2 else -1) * e) % 3, u % 2 == 1) for e in range(EVENTS) for u in range(USERS)]
    return world(folder, rows, [f"{colour} kite" for colour in COLOURS])


def of_words(folder: Path) -> str:
    """Each round of events has 12 items of its own, of which the sweet ones are liked, by everybody."""
    each, titles = 12, list[str]()
    rows = list[tuple[int, int, bool]]()
    for e in range(EVENTS):
        sweet = [(i * 7 + e) % 2 == 0 for i in range(each)]
        rows += [(u, len(titles) + (u * 5 + e) % each, sweet[(u * 5 + e) % each]) for u in range(USERS)]
        titles += [f"{'sweet' if s else 'bitter'} kettle" for s in sweet]
    return world(folder, rows, titles)


def found(source: str, folder: Path, *controls: str) -> dict[str, Any]:
    """All figures of plain LoRA and these controls of it."""
    recipe = {
        "name": "planted",
        "data": {"source": parse_source(source).model_dump(mode="json", exclude_none=True), "rules": {"min_history": K}},
        "backbone": NANO | {"training": TRAINING | {"select": "-loss"}},
        "systems": {"lora": SYSTEM, **{name: {"like": "lora", "control": name} for name in controls}},
        "evaluation": {"resamples": 100},
    }
    run = Run(parse(recipe, "the test"), folder / "run", Options(device="cpu", progress=False))
    run.all()
    made: dict[str, Any] = json.loads((folder / "run/6-report/evaluation.json").read_text())
    return made


def auc(made: dict[str, Any], name: str) -> float:
    return float(made["systems"][name]["auc"]["value"])


def test_where_order_is_all_there_is_a_drawn_order_leaves_guessing(tmp_path: Path) -> None:
    made = found(of_order(tmp_path), tmp_path, "shuffled-history")
    assert auc(made, "lora") > 0.95
    assert auc(made, "shuffled-history") < 0.65
    (order,) = made["worth"]
    assert (order["system"], order["control"], order["lacks"]) == ("lora", "shuffled-history", "order")
    assert order["differences"]["auc"]["low"] > 0.2


def test_where_words_are_all_there_is_ids_leave_guessing_and_a_drawn_order_costs_nothing(tmp_path: Path) -> None:
    made = found(of_words(tmp_path), tmp_path, "shuffled-history", "titles-as-ids")
    assert auc(made, "lora") > 0.95
    assert auc(made, "titles-as-ids") < 0.65
    order, words = made["worth"]
    assert abs(order["differences"]["auc"]["value"]) < 0.05
    assert words["lacks"] == "words"
    assert words["differences"]["auc"]["low"] > 0.2
