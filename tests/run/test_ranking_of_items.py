"""The parts of a recommendation alone: the first k, the values of fields, the best scorer, the file of a batch under kills."""

import json
import os
import signal
from collections.abc import Callable, Iterable
from itertools import count
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from lifelora.errors import ArtefactError, ConfigError
from lifelora.recipe.files import parse
from lifelora.run import Options, Run
from lifelora.run.choice import VALIDATION, best, common_samples
from lifelora.run.recommend import recommend
from lifelora.run.recommend.many import SCHEMA, Batch
from lifelora.run.recommend.out import Out
from lifelora.run.recommend.pool import Field
from lifelora.run.recommend.ranking import NONE, first
from lifelora.run.scorers.base import Requests
from run_world import TRAINING, VALUES

QUIET = Options(device="cpu", progress=False)
SCORES = st.lists(st.sampled_from([0.0, 0.25, 0.5, float("nan")]), min_size=1, max_size=12)


@given(st.data(), SCORES, st.integers(1, 15))
def test_the_first_are_those_of_a_plain_sort(data: st.DataObject, score_P: list[float], k: int):
    """By score, what has none last, of equal ones the first place; never what is not allowed."""
    allowed_P = data.draw(st.lists(st.booleans(), min_size=len(score_P), max_size=len(score_P)))
    due = sorted(
        (place for place, allowed in enumerate(allowed_P) if allowed),
        key=lambda place: (np.isnan(score_P[place]), -np.nan_to_num(score_P[place]), place),
    )[:k]
    # Beside another row, which has nothing to do with this one.
    place_BK, score_BK = first(np.array([score_P, score_P[::-1]]), np.array([allowed_P, [True] * len(score_P)]), k)
    assert place_BK.shape == (2, min(k, len(score_P)))
    made = place_BK[0].tolist()
    assert made == due + [NONE] * (len(made) - len(due))
    assert np.array_equal(score_BK[0][: len(due)], np.array(score_P)[due], equal_nan=True)


def test_a_field_with_several_values_fits_by_any():
    of_field = Field.of(pa.chunked_array([[["Action", "Comedy"], [], None], [["comedy"], ["Drama"]]]))
    assert of_field.has("COMEDY", "genre").tolist() == [True, False, False, True, False]
    plain = Field.of(pa.chunked_array([["Argo", "", "argo"], ["Bolt", "Bolt"]]))
    assert plain.has("argo", "brand").tolist() == [True, False, True, False, False]
    with pytest.raises(ConfigError, match="There are: Bolt, Argo, argo"):
        plain.has("Zeta", "brand")


# The best scorer.


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Its scorers had 20, 60 and all validation samples to choose their weights by; popularity was counted."""
    small = {"embedding": 4, "hidden": 8, "layers": 1, "history_length": 6}
    values = VALUES | {
        "conventional": {
            "popular": {"model": {"kind": "popularity"}},
            "sasrec": {"model": {"kind": "sasrec"} | small, "training": TRAINING},
            "deepfm": {"model": {"kind": "deepfm"} | small, "training": TRAINING, "validation_samples": 60},
        },
        "systems": {"lora": VALUES["systems"]["lora"]},
    }
    made = Run(parse(values, "the tests' recipe"), tmp_path_factory.mktemp("best") / "run", QUIET)
    made.all()
    return made


def test_the_best_is_found_on_the_same_samples(run: Run):
    """Against scikit-learn's AUC on the fewest samples that one of them had."""
    again = Run.open(run.folder, QUIET)
    rows = common_samples(again.task)
    assert len(rows) == 20
    targets = again.context.dataset.targets(rows)
    due = {name: roc_auc_score(targets.label_B, one.score(Requests(targets))[:, 0]) for name, one in again.scorers.items()}
    choice = best(again.task, list(again.scorers.values()))
    assert dict(choice.aucs) == pytest.approx(due)
    assert choice.scorer.name == max(due, key=lambda name: due[name])
    answer = recommend(again, "u00003", None, 3, None)
    assert answer.system == choice.scorer.name
    assert answer.why.startswith(f"the best on the same 20 validation samples: AUC {due[answer.system]:.4f}; ")
    assert f"popular {due['popular']:.4f}" in str(answer)
    assert recommend(again, "u00003", None, 3, "lora").why == ""


def test_what_was_kept_is_not_scored_again(run: Run, monkeypatch: pytest.MonkeyPatch):
    again = Run.open(run.folder, QUIET)
    kept = {name: json.loads((again.stages.scores(name).folder / VALIDATION).read_text()) for name in again.scorers}
    for scorer in again.scorers.values():
        monkeypatch.setattr(scorer, "score", lambda *_: pytest.fail("scored again"))
    choice = best(again.task, list(again.scorers.values()))
    assert {name: {"auc": auc, "samples": 20} for name, auc in choice.aucs.items()} == kept


def test_a_run_of_one_needs_no_choice(run: Run):
    choice = best(run.task, [run.scorers["lora"]])
    assert (choice.scorer.name, choice.why) == ("lora", "the only one")


# The file of a batch.


class Stub(Batch):
    """Twelve users in blocks of three, of no run."""

    blocks = 4
    settings: ClassVar[dict[str, object]] = {}

    def __init__(self, k: int = 2) -> None:
        self.users = [f"u{number:02}" for number in range(12)]
        self.k, self.made = k, 0
        vars(self)["settings"] = {"k": k, "data": "abc"}

    def of_block(self, number: int) -> list[str]:
        return self.users[3 * number : 3 * number + 3]

    def block(self, number: int) -> pa.Table:
        self.made += 1
        rows = [
            {"user": user, "rank": rank, "item": f"i{rank}", "title": 'A "title", Ünd\nmore', "score": rank / 7, "how": "history"}
            for user in self.of_block(number)
            for rank in range(1, self.k + 1)
        ]
        rows[0]["score"] = None
        return pa.Table.from_pylist(rows, SCHEMA)

    def notes(self, tables: Iterable[pa.Table]) -> list[str]:
        return [f"{sum(1 for _ in tables)} blocks"]


def read(path: Path) -> list[dict[str, object]]:
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text().splitlines()]
    options = pacsv.ParseOptions(newlines_in_values=True)
    table = pq.read_table(path) if path.suffix == ".parquet" else pacsv.read_csv(path, parse_options=options)
    return table.to_pylist()


def killed(before: int, work: Callable[[], object]) -> bool:
    """Do it in a child that gets SIGKILL just before its n-th call of the system that changes a folder; whether it was killed."""
    child = os.fork()
    if child == 0:
        calls = count(1)

        def deadly(inner: Callable[..., object]) -> Callable[..., object]:
            def call(*words: object, **named: object) -> object:
                if next(calls) == before:
                    os.kill(os.getpid(), signal.SIGKILL)
                return inner(*words, **named)

            return call

        for name in ("replace", "fsync", "unlink", "rmdir", "mkdir"):
            setattr(os, name, deadly(getattr(os, name)))
        work()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


@pytest.mark.parametrize("ending", ["parquet", "csv", "jsonl"])
def test_killed_at_any_moment_it_goes_on_to_the_same_file(tmp_path: Path, ending: str):
    whole = tmp_path / f"whole.{ending}"
    assert Out(whole).write(Stub(), progress=False) == ["4 blocks"]
    assert read(whole) == [row for number in range(4) for row in Stub().block(number).to_pylist()]
    assert sorted(path.name for path in tmp_path.iterdir()) == [whole.name, f"{whole.name}.about.json"]
    moment, path = 0, tmp_path / f"killed.{ending}"
    while killed(moment := moment + 1, lambda: Out(path).write(Stub(), progress=False)):
        if path.exists():
            assert path.read_bytes() == whole.read_bytes()  # never a half
        if moment % 3 == 0:  # every third time it goes on from where it was, to the end
            Out(path).write(Stub(), progress=False)
            assert path.read_bytes() == whole.read_bytes()
            assert sorted(one.name for one in tmp_path.glob("killed*")) == [path.name, f"{path.name}.about.json"]
            path.unlink()
            path.with_name(f"{path.name}.about.json").unlink()
    assert moment > 20
    assert path.read_bytes() == whole.read_bytes()


def test_finished_blocks_are_not_made_again(tmp_path: Path):
    class Failing(Stub):
        def block(self, number: int) -> pa.Table:
            if number == 2:
                raise KeyboardInterrupt
            return super().block(number)

    with pytest.raises(KeyboardInterrupt):
        Out(tmp_path / "recs.csv").write(Failing(), progress=False)
    batch = Stub()
    Out(tmp_path / "recs.csv").write(batch, progress=False)
    assert batch.made == 2
    said = Out(tmp_path / "recs.csv").write(batch, progress=False)
    assert said == [f"{tmp_path / 'recs.csv'} is there already, made with the same settings; it stays as it is."]
    assert batch.made == 2


def test_what_is_not_ours_stays_as_it_is(tmp_path: Path):
    path = tmp_path / "recs.csv"
    path.write_text("mine")
    with pytest.raises(ArtefactError, match="not made by this command"):
        Out(path).write(Stub(), progress=False)
    assert path.read_text() == "mine"
    path.unlink()
    (tmp_path / "recs.csv.parts").mkdir()
    (tmp_path / "recs.csv.parts/mine.txt").write_text("mine")
    with pytest.raises(ArtefactError, match=r"recs.csv.parts is there, and not made by this command"):
        Out(path).write(Stub(), progress=False)
    (tmp_path / "recs.csv.parts/mine.txt").unlink()
    (tmp_path / "recs.csv.parts").rmdir()
    Out(path).write(Stub(), progress=False)
    before = path.read_bytes()
    with pytest.raises(ArtefactError, match=r"other settings \(k differ\)"):
        Out(path).write(Stub(k=3), progress=False)
    assert path.read_bytes() == before
    path.write_bytes(before + b"more")
    with pytest.raises(ArtefactError, match="was changed since"):
        Out(path).write(Stub(), progress=False)
    assert path.read_bytes() == before + b"more"
    path.unlink()  # removed by its owner: it is made again
    Out(path).write(Stub(), progress=False)
    assert path.read_bytes() == before


def test_the_ending_says_what_is_written(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"give one of .parquet, .csv, .jsonl"):
        Out(tmp_path / "recs.xlsx")
