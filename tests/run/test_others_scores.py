"""`lifelora samples` and `lifelora measure`: a run's samples leave as a file, and somebody else's scores of them come back."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.metrics import roc_auc_score

from lifelora.cli import main
from lifelora.evaluation.ranks import Ranks
from lifelora.run import Options, Run
from run_world import next_items, tiny

OPTIONS = Options(device="cpu", progress=False)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = Run(tiny().model_copy(update={"systems": {}}), tmp_path_factory.mktemp("ctr"), OPTIONS)
    run.all()
    return run


@pytest.fixture
def frame(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> pd.DataFrame:
    """The run's test samples, as the command writes them."""
    assert main(["samples", str(run.folder), "--out", str(tmp_path / "test.parquet")]) == 0
    assert "24 test samples in " in capsys.readouterr().out
    return pd.read_parquet(tmp_path / "test.parquet")


def measured(words: list[Any], capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    status = main(["measure", *map(str, words), "--json"])
    captured = capsys.readouterr()
    assert status == 0, captured.err
    values: dict[str, Any] = json.loads(captured.out)
    return values


def refused(words: list[Any], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["measure", *map(str, words)]) == 1
    return capsys.readouterr().err


@pytest.mark.parametrize("ending", ["parquet", "csv", "jsonl", "csv.gz"])
def test_scores_in_a_file_have_the_figures_of_the_run(
    ending: str, run: Run, frame: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """Booleans, too, as pandas writes them into a CSV."""
    path = tmp_path / f"scores.{ending}"
    frame = frame.assign(clicked=frame["label"] == 1)
    if ending == "parquet":
        frame.to_parquet(path)
    elif ending == "jsonl":
        frame.assign(clicked=frame["label"]).to_json(path, orient="records", lines=True, double_precision=15)
    else:
        frame.to_csv(path, index=False)
    found = measured([path, "--label", "clicked", "--score", "din", "popular", "--minus", "popular"], capsys)
    table = json.loads((run.stages.report.folder / "evaluation.json").read_text())["systems"]
    for name in ("din", "popular"):
        for metric in ("auc", "gauc", "log_loss", "accuracy"):
            assert found["systems"][name][metric]["value"] == pytest.approx(table[name][metric]["value"], abs=1e-7)
            assert found["systems"][name][metric]["low"] == pytest.approx(table[name][metric]["low"], abs=1e-6)
    assert found["systems"]["din"]["auc"]["value"] == pytest.approx(roc_auc_score(frame["label"], frame["din"]))
    assert found["differences"]["minus"] == "popular"
    assert (found["rows"], found["positives"]) == (24, int(frame["label"].sum()))


def test_a_file_beside_a_run_in_any_order(run: Run, frame: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """The run's own scores under another name differ from it by nothing; rows of other samples are counted."""
    theirs = frame.sample(frac=1, random_state=1)[["user", "item", "time", "din"]].rename(columns={"din": "bert"})
    more = theirs.head(2).assign(user="nobody")
    pd.concat([more, theirs]).to_parquet(tmp_path / "bert.parquet")
    found = measured([tmp_path / "bert.parquet", "--run", run.folder, "--score", "bert", "--minus", "din"], capsys)
    assert list(found["systems"]) == ["bert", "popular", "din"]
    assert found["systems"]["bert"] == found["systems"]["din"]
    assert (
        found["differences"]["systems"]["bert"]["auc"] | {"p": 1.0, "value": 0.0}
        == found["differences"]["systems"]["bert"]["auc"]
    )
    assert found["rows_hash"] == json.loads((run.stages.report.folder / "evaluation.json").read_text())["rows_hash"]
    assert "2 rows of " in found["notes"][0]
    assert main(["measure", str(tmp_path / "bert.parquet"), "--run", str(run.folder), "--score", "bert"]) == 0
    assert "note: 2 rows of " in capsys.readouterr().out


def test_what_does_not_fit_the_run_is_counted(run: Run, frame: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    def said(changed: pd.DataFrame, *words: str) -> str:
        changed.to_csv(tmp_path / "x.csv", index=False)
        return refused([tmp_path / "x.csv", "--run", run.folder, "--score", "din", *words], capsys)

    assert "3 problems in the data" in (lacking := said(frame.iloc[3:]))
    first = frame.iloc[0]
    assert f"no row has the test sample '{first['user']}', '{first['item']}', {first['time']}" in lacking
    twice = said(pd.concat([frame, frame.head(2)]))
    assert "2 problems in the data" in twice
    assert "x.csv:26: a second row for the same user 'user', item 'item', time 'time'; keep one" in twice
    other = said(frame.assign(label=[1 - frame["label"][0], *frame["label"][1:]]))
    assert "x.csv:2, column 'label'" in other
    assert "the run has the other label for this sample (rating > 3)" in other
    assert "value 'high': a score is a finite number" in said(frame.assign(din="high"))
    assert "no row has the test sample" in said(frame.assign(time=frame["time"] + 1))
    assert "column 'when': there is no such column" in said(frame, "--time", "when")
    assert "is a run of the task 'ctr': give scores" in refused(
        [tmp_path / "x.csv", "--run", run.folder, "--rank", "din"], capsys
    )


def test_what_a_file_lacks_is_said(frame: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = tmp_path / "x.csv"
    frame.drop(columns="label").to_csv(path, index=False)
    assert "column 'label': there is no such column; the file has: user, din" in refused([path, "--score", "din"], capsys)
    assert "there is no system 'x' to subtract; there are din" in refused(
        [tmp_path / "test.parquet", "--score", "din", "--minus", "x"], capsys
    )
    assert "there is no file" in refused([tmp_path / "none.csv"], capsys)
    assert main(["samples", str(tmp_path), "--out", str(path)]) == 1
    assert "is there already" in capsys.readouterr().err
    assert main(["samples", str(tmp_path), "--out", str(tmp_path / "x.txt")]) == 1
    assert "ends neither in .parquet nor in .csv" in capsys.readouterr().err


def test_samples_of_training_are_those_of_the_data_set(run: Run, tmp_path: Path):
    assert main(["samples", str(run.folder), "--part", "train", "--out", str(tmp_path / "train.parquet")]) == 0
    table, dataset = pl.read_parquet(tmp_path / "train.parquet"), run.context.dataset
    rows = np.asarray(dataset.samples["train"])
    assert table.columns == ["user", "item", "time", "label"]
    assert table["time"].to_list() == np.asarray(dataset.time_N[rows]).tolist()
    assert table["label"].to_list() == np.asarray(dataset.label_N[rows]).astype(int).tolist()


def test_ranks_beside_a_run_of_next_items(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    run = Run(next_items(), tmp_path / "run", OPTIONS)
    run.all()
    assert main(["samples", str(run.folder), "--out", str(tmp_path / "s.parquet")]) == 0
    table = pl.read_parquet(tmp_path / "s.parquet")
    lists = table["candidates"].to_list()
    assert all(item in some for item, some in zip(table["item"], lists, strict=True))
    # the right item first in every other list, and last in the rest
    right = [some.index(item) for item, some in zip(table["item"], lists, strict=True)]
    rank_N = np.array([1 if i % 2 else len(some) for i, some in enumerate(lists)])
    made = [
        [0.0 if rank > 1 else 1.0 if c == at else 0.5 for c in range(len(some))]
        for rank, at, some in zip(rank_N, right, lists, strict=True)
    ]
    made = [
        [1.0 if rank > 1 and c != at else s for c, s in enumerate(one)] for rank, at, one in zip(rank_N, right, made, strict=True)
    ]
    table.with_columns(rank=rank_N, scores=pl.Series(made), right=pl.Series(right)).write_parquet(tmp_path / "r.parquet")
    capsys.readouterr()
    ranked = measured([tmp_path / "r.parquet", "--run", run.folder, "--rank", "rank"], capsys)["systems"]
    expected = Ranks(rank_N - 1, np.ones_like(rank_N))
    assert ranked["rank"]["ndcg@10"]["value"] == pytest.approx(expected.ndcg(10).mean())
    report = json.loads((run.stages.report.folder / "evaluation.json").read_text())["systems"]
    name = next(iter(report))
    assert ranked[name]["hr@1"] == report[name]["hr@1"]
    listed = measured([tmp_path / "r.parquet", "--run", run.folder, "--score", "scores", "--target", "right"], capsys)["systems"]
    assert listed["scores"] == ranked["rank"]
