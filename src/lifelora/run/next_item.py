"""The task next-item in a run: where trained models put the item that came next, and the report. Knows parts, draws no list."""

import hashlib
import json
import shlex
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int

from lifelora.artefacts import write_atomically
from lifelora.conventional.next_item import MostPopular, NextItem
from lifelora.data.dataset import Targets
from lifelora.evaluation.ranking import Places
from lifelora.evaluation.ranking_report import RankedSystem, RankingReport, figures, measure, plain_table, write_report
from lifelora.progress import Progress
from lifelora.run import findings
from lifelora.run.parts import Parts
from lifelora.training import to_device
from lifelora.types import Part

PLACES = "places.npy"
CELLS = 1 << 24
"""Scores held at a time."""


def places(
    parts: Parts, name: str, model: NextItem | MostPopular, part: Part, rows_N: Int[np.ndarray, "N"], said: str | None = None
) -> tuple[Places | None, Places]:
    """Where the targets of some rows of a part stand: among their candidates, if there are any, and in the catalogue.

    What the user had met before is no candidate of either; a target that comes again is one all the same.
    """
    dataset = parts.dataset
    listed_N = np.flatnonzero(np.isin(np.asarray(dataset.samples[part]), rows_N))  # rows keep the part's order
    listed: list[np.ndarray] = []
    whole: list[np.ndarray] = []
    size = max(1, CELLS // dataset.n_items)
    with torch.inference_mode(), Progress(said or "", len(rows_N), enabled=bool(said) and parts.options.progress) as ticker:
        for start in range(0, len(rows_N), size):
            targets = dataset.targets(rows_N[start : start + size])
            batch = to_device(parts.samples(name, model, targets), parts.device)
            score_BM = np.ascontiguousarray(model.scores(batch).float().cpu().numpy())  # what is the same for all is one row
            if part in dataset.lists:
                list_BC = np.asarray(dataset.lists[part][listed_N[start : start + size]], np.int64)
                own_B = (list_BC == targets.item_B[:, None]).argmax(axis=1)
                among = Places.of(np.take_along_axis(score_BM, list_BC, axis=1), own_B)
                listed.append(np.stack([among.better_N, among.tied_N], axis=1))
            _leave_out_met(score_BM, parts, targets)
            every = Places.of(score_BM, targets.item_B)
            whole.append(np.stack([every.better_N, every.tied_N], axis=1))
            ticker.advance(len(targets))
    return (Places(*np.concatenate(listed).T) if listed else None), Places(*np.concatenate(whole).T)


def _leave_out_met(score_BM: np.ndarray, parts: Parts, targets: Targets) -> None:
    first_B = parts.dataset.offsets[targets.user_B]
    own_B = score_BM[np.arange(len(targets)), targets.item_B].copy()
    length_B = targets.before_B - first_B
    row_N = np.repeat(np.arange(len(targets)), length_B)
    event_N = np.arange(len(row_N)) - np.repeat(np.cumsum(length_B) - length_B, length_B) + np.repeat(first_B, length_B)
    score_BM[row_N, parts.dataset.item_N[event_N]] = -np.inf
    score_BM[np.arange(len(targets)), targets.item_B] = own_B


def validate(parts: Parts, name: str, model: NextItem, rows_N: Int[np.ndarray, "N"]) -> dict[str, float]:
    """AUC (the share of other candidates behind the target), HR@1, NDCG@10 and MRR on validation rows; of the catalogue where
    there are no lists.
    """
    listed, whole = places(parts, name, model, "valid", rows_N)
    found, others = (listed, parts.dataset.lists["valid"].shape[1] - 1) if listed else (whole, parts.dataset.n_items - 1)
    before_N = found.better_N + (found.tied_N - 1) / 2
    return {"auc": float(1 - before_N.mean() / others), "hr1": float(found.hit(1).mean()),
            "ndcg10": float(found.ndcg(10).mean()), "mrr": float(found.reciprocal().mean())}


def evaluate(parts: Parts, name: str, folder: Path) -> None:
    """Keep the places of the test rows' targets: better and tied ones among the candidates (-1 without any), then of all."""
    listed, whole = places(parts, name, parts.next_item(name), "test", parts.test_rows, f"{name}: placing test rows")
    none = np.full(len(whole.better_N), -1)
    columns = (listed.better_N, listed.tied_N) if listed else (none, none)
    np.save(folder / PLACES, np.stack([*columns, whole.better_N, whole.tied_N], axis=1).astype(np.int32))


def write(parts: Parts, seconds: Mapping[str, float | None], folder: Path) -> None:
    """The page, its pictures, all figures as JSON, and the table as text."""
    report = gather(parts, seconds)
    measured = measure(report)
    write_report(folder, report, measured)
    write_atomically(folder / findings.FIGURES, json.dumps(figures(measured), indent=1, ensure_ascii=False))
    write_atomically(folder / findings.TABLE, plain_table(measured))


def gather(parts: Parts, seconds: Mapping[str, float | None]) -> RankingReport:
    """Everything that the page tells."""
    recipe, dataset, stages = parts.recipe, parts.dataset, parts.stages
    targets = dataset.targets(parts.test_rows)
    samples, lists = np.asarray(dataset.samples["test"]), dataset.lists.get("test")
    systems = []
    for name, step in recipe.conventional.items():
        better_tied_N4 = np.load(stages.scores(name).require() / PLACES, allow_pickle=False).astype(np.int64)
        train, length = len(dataset.samples["train"]), getattr(step.model, "history_length", 0)
        reads = f"ids; the last {length} behaviours; {min(step.shots or train, train):,} training rows" if length else "no user"
        systems.append(RankedSystem(
            name, "conventional", reads, None if lists is None else Places(*better_tied_N4[:, :2].T),
            Places(*better_tied_N4[:, 2:].T), findings.curves(stages.conventional(name).folder), seconds.get(f"fit/{name}")))
    out = shlex.quote(str(stages.folder))
    return RankingReport(
        title=recipe.about or recipe.name,
        facts=[
            ("data", f"{dataset.name}: {len(dataset):,} interactions, {dataset.n_users:,} users, {dataset.n_items:,} items"),
            ("samples", " / ".join(f"{len(dataset.samples[p]):,} {p}" for p in ("train", "valid", "test"))),
            ("split", recipe.data.rules.split.kind), ("seed", str(recipe.seed)), ("data hash", stages.data.key),
        ],
        systems=systems, user_N=targets.user_B,
        rows_hash=_hash(targets.user_B, targets.item_B, *(() if lists is None else (lists[np.isin(samples, parts.test_rows)],))),
        candidates=0 if lists is None else lists.shape[1], n_items=dataset.n_items, reference=stages.names[0],
        notes=list(dataset.notes), seed=recipe.seed, resamples=recipe.evaluation.resamples,
        commands=[
            ("this run again", f"lifelora run {shlex.quote(str(stages.folder / 'recipe.toml'))} --out ANOTHER_FOLDER"),
            ("the table", f"lifelora show {out}"),
        ],
    )


def _hash(*arrays: Int[np.ndarray, "..."]) -> str:
    """16 hexadecimal digits that stand for the rows and their lists."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array, "<i8").tobytes())
    return digest.hexdigest()[:16]
