"""The task next-item in a run: where trained models put the item that came next, and the report. Knows parts, draws no list."""

import hashlib
import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from lifelora.artefacts import read_json, write_atomically
from lifelora.conventional.sequence import MostPopular, NextItem
from lifelora.data.dataset import Targets
from lifelora.evaluation.measured import figures
from lifelora.evaluation.ranking_report import Cost as PerRow
from lifelora.evaluation.ranking_report import RankedSystem, RankingReport, measure, plain_table
from lifelora.evaluation.ranks import Ranks
from lifelora.llm.next_item import form_asked
from lifelora.llm.titles import Cost
from lifelora.lora.adapters import Adapters
from lifelora.lora.summary import Summary
from lifelora.progress import Progress
from lifelora.run import findings
from lifelora.run.chooser import Chooser, of_users
from lifelora.run.parts import SUMMARISED, SUMMARY, Parts
from lifelora.tensors import to_device
from lifelora.types import Part

RANKS = "ranks.npy"
ANSWERS, COSTS = "answers.npy", "costs.json"
CELLS = 1 << 24
"""Scores held at a time."""


def ranks(
    parts: Parts, name: str, model: NextItem | MostPopular, part: Part, rows_N: Int[np.ndarray, "N"], said: str | None = None
) -> tuple[Ranks | None, Ranks]:
    """Where the targets of some rows of a part stand: among their candidates, if there are any, and in the catalogue.

    What the user had met before is no candidate of either; a target that comes again is one all the same.
    """
    dataset, listed, whole = parts.dataset, list[Ranks](), list[Ranks]()
    lists_NC = parts.lists(part, rows_N) if part in dataset.lists else None
    for place_B, targets, score_BM in _scored(parts, name, model, rows_N, said):
        if lists_NC is not None:
            list_BC = lists_NC[place_B]
            listed.append(Ranks.of(np.take_along_axis(score_BM, list_BC, axis=1), _own(list_BC, targets)))
        _leave_out_seen(score_BM, parts, targets)
        whole.append(Ranks.of(score_BM, targets.item_B))
    return (_joined(listed) if listed else None), _joined(whole)


def two_stages(
    parts: Parts, chooser: Chooser, rows_N: Int[np.ndarray, "N"], said: str | None = None
) -> tuple[Ranks, Cost]:
    """Where the targets of some rows stand in the catalogue that the first stage has ranked and the LM has put its head in order.

    A target that the first stage left out stands where it was. Also what the LM's part took.
    """
    assert chooser.system.retriever_name is not None
    model, found, cost = parts.next_item(chooser.system.retriever_name), list[Ranks](), Cost()
    for _, targets, score_BM in _scored(parts, chooser.system.retriever_name, model, rows_N, said):
        _leave_out_seen(score_BM, parts, targets)
        short_BC = shortlist(score_BM, chooser.system.shortlist)
        among_BC, took = chooser.scores(chooser.questions(of_users(targets, short_BC), short_BC))
        cost.add(took)
        # In a small catalogue the head may reach into what was met.
        among_BC[np.isneginf(np.take_along_axis(score_BM, short_BC, axis=1))] = -np.inf
        second = Ranks.of(among_BC, _own(short_BC, targets))
        inside_B = (short_BC == targets.item_B[:, None]).any(axis=1)
        own_B = score_BM[np.arange(len(targets)), targets.item_B]
        np.put_along_axis(score_BM, short_BC, -np.inf, axis=1)
        score_BM[np.arange(len(targets)), targets.item_B] = own_B
        first = Ranks.of(score_BM, targets.item_B)
        found.append(Ranks(np.where(inside_B, second.better_N, first.better_N + short_BC.shape[1]),
                            np.where(inside_B, second.tied_N, first.tied_N)))
    return _joined(found), cost


def shortlist(score_BM: Float[np.ndarray, "B M"], count: int) -> Int[np.ndarray, "B C"]:
    """The ``count`` items of each row with the highest scores (of equal ones the first), in the catalogue's order."""
    return np.sort(np.argsort(-score_BM, axis=1, kind="stable")[:, :count], axis=1)


def _scored(
    parts: Parts, name: str, model: NextItem | MostPopular, rows_N: Int[np.ndarray, "N"], said: str | None
) -> Iterator[tuple[slice, Targets, Float[np.ndarray, "B M"]]]:
    """Scores of the whole catalogue, some rows at a time."""
    size = max(1, CELLS // parts.dataset.n_items)
    with Progress(said or "", len(rows_N), enabled=bool(said) and parts.options.progress) as ticker:
        for start in range(0, len(rows_N), size):
            targets = parts.dataset.targets(rows_N[start : start + size])
            yield slice(start, start + size), targets, catalogue_scores(parts, name, model, targets)
            ticker.advance(len(targets))


def catalogue_scores(
    parts: Parts, name: str, model: NextItem | MostPopular, targets: Targets
) -> Float[np.ndarray, "B M"]:
    """What a conventional model says of every item, for each row."""
    with torch.inference_mode():
        scores = model.scores(to_device(parts.samples(name, model, targets), parts.device))
    made: np.ndarray = scores.float().cpu().numpy().copy()  # what is the same for all is one row, and may be the model's own
    return made


def probabilities(
    parts: Parts, name: str, user: int, items_C: Int[np.ndarray, "C"]
) -> tuple[Float[np.ndarray, "C"], Int[np.ndarray, "K"]]:
    """The chance that each item comes next for somebody, and the event rows that a language model was shown.

    By a conventional model it is the chance in the whole catalogue, by a language model among these items, of which those that
    are called the same share their title's. Raises ConfigError where they are too many for a prompt.
    """
    targets = parts.dataset.candidates(user, items_C[:1])
    if name in parts.recipe.conventional:
        model = parts.next_item(name)
        with torch.inference_mode():
            probability_M = model.probabilities(to_device(parts.samples(name, model, targets), parts.device))[0]
        return np.asarray(probability_M.double().cpu().numpy()[items_C]), np.zeros(0, np.int64)
    chooser = Chooser.trained(parts, name)
    asked = chooser.questions(targets, items_C[None])
    score_C = chooser.scores(asked)[0][0]
    _, same_C, count = np.unique(np.array(parts.dataset.titles)[items_C], return_inverse=True, return_counts=True)
    probability_C = np.exp(score_C - score_C.max()) / count[same_C]
    # Of the behaviours that were chosen, the oldest may have found no room.
    room = int(chooser.batch(asked, np.zeros(1, np.int64), form_asked(chooser.system.item_form)).prompts.shown_B[0])
    chosen_K = asked.chosen_NK[0, asked.mask_NK[0]]
    return np.asarray(probability_C / probability_C.sum()), np.asarray(chosen_K[len(chosen_K) - room :])


def _own(list_BC: Int[np.ndarray, "B C"], targets: Targets) -> Int[np.ndarray, "B"]:
    return np.asarray((list_BC == targets.item_B[:, None]).argmax(axis=1))


def _joined(parts: Sequence[Ranks]) -> Ranks:
    return Ranks(np.concatenate([p.better_N for p in parts]), np.concatenate([p.tied_N for p in parts]))


def _leave_out_seen(score_BM: np.ndarray, parts: Parts, targets: Targets) -> None:
    own_B = score_BM[np.arange(len(targets)), targets.item_B].copy()
    number_P, event_P = parts.dataset.log.past(targets.user_B, targets.position_B)
    score_BM[number_P, parts.dataset.item_N[event_P]] = -np.inf
    score_BM[np.arange(len(targets)), targets.item_B] = own_B


def validate(parts: Parts, name: str, model: NextItem, rows_N: Int[np.ndarray, "N"]) -> dict[str, float]:
    """AUC (the share of other candidates behind the target), HR@1, NDCG@10 and MRR on validation rows; of the catalogue where
    there are no lists.
    """
    listed, whole = ranks(parts, name, model, "valid", rows_N)
    return _metrics(listed, parts.dataset.lists["valid"].shape[1]) if listed else _metrics(whole, parts.dataset.n_items)


def train(parts: Parts, name: str, folder: Path) -> tuple[Adapters, Float[Tensor, "B D"]]:
    """Teach a language-model system to answer; validation rows choose the weights by where it puts their targets.

    Gives the adapters, and the representations of some people, by which they are measured.
    """
    chooser = Chooser(parts, name)
    valid = chooser.questions_of("valid", parts.drawn("valid", chooser.system.validation_samples, "validation"))

    def validate() -> dict[str, float]:
        score_NC, _ = chooser.scores(valid)
        return _metrics(Ranks.of(score_NC, _own(valid.candidates_NC, valid.targets)), score_NC.shape[1])

    chooser.train(folder, validate)
    return chooser.lm.adapters, valid.user_ND[:SUMMARISED].to(parts.device)


def _metrics(found: Ranks, among: int) -> dict[str, float]:
    before_N = found.better_N + (found.tied_N - 1) / 2
    return {"auc": float(1 - before_N.mean() / (among - 1)), "hr1": float(found.hit(1).mean()),
            "ndcg10": float(found.ndcg(10).mean()), "mrr": float(found.reciprocal().mean())}


def evaluate(parts: Parts, name: str, folder: Path) -> None:
    """Keep the places of the test rows' targets: better and tied ones among the candidates, then of all (-1 where none are).

    Of a language model also what it answers with one title, and what each way took.
    """
    rows_N = parts.test_samples
    listed: Ranks | None
    whole: Ranks | None
    if name in parts.recipe.conventional:
        listed, whole = ranks(parts, name, parts.next_item(name), "test", rows_N, f"{name}: placing test rows")
    else:
        listed, whole = _evaluate_system(parts, Chooser.trained(parts, name), rows_N, folder)
    none = np.full(len(rows_N), -1)
    columns = [column for found in (listed, whole) for column in ((found.better_N, found.tied_N) if found else (none, none))]
    np.save(folder / RANKS, np.stack(columns, axis=1).astype(np.int32))


def _evaluate_system(
    parts: Parts, chooser: Chooser, rows_N: Int[np.ndarray, "N"], folder: Path
) -> tuple[Ranks, Ranks | None]:
    name, asked, costs = chooser.name, chooser.questions_of("test", rows_N), dict[str, Cost]()
    count = asked.candidates_NC.shape[1]
    score_NC, costs[f"likelihoods of {count} titles"] = chooser.scores(asked, f"{name}: ranking candidates")
    evaluation = parts.recipe.evaluation
    values, took = chooser.answers(asked, evaluation.beams, evaluation.written_tokens, f"{name}: answering with a title")
    costs |= took
    whole = None
    if chooser.system.retriever_name is not None:
        whole, costs[f"after {chooser.system.retriever_name}: likelihoods of {chooser.system.shortlist} titles"] = two_stages(
            parts, chooser, rows_N, f"{name}: ranking the catalogue")
    np.save(folder / ANSWERS, np.stack(list(values.values()), axis=1).astype(np.float32))
    write_atomically(folder / COSTS, json.dumps({
        "answers": list(values), "rows": len(rows_N), "costs": {way: [c.tokens, c.seconds] for way, c in costs.items()},
    }, indent=1))
    return Ranks.of(score_NC, _own(asked.candidates_NC, asked.targets)), whole


def write(parts: Parts, seconds: Mapping[str, float | None], folder: Path) -> None:
    """The page, its pictures, all figures as JSON, and the table as text."""
    report = gather(parts, seconds)
    measured = measure(report)
    from lifelora.evaluation.page import write_ranking  # matplotlib only when a page is asked for

    write_ranking(folder, report, measured)
    write_atomically(folder / findings.FIGURES, json.dumps(figures(measured), indent=1, ensure_ascii=False))
    write_atomically(folder / findings.TABLE, plain_table(measured))


def gather(parts: Parts, seconds: Mapping[str, float | None]) -> RankingReport:
    """Everything that the page tells."""
    recipe, dataset, stages = parts.recipe, parts.dataset, parts.stages
    targets = dataset.targets(parts.test_samples)
    lists = dataset.lists.get("test")
    facts = [
        ("data", f"{dataset.name}: {len(dataset):,} interactions, {dataset.n_users:,} users, {dataset.n_items:,} items"),
        ("samples", " / ".join(f"{len(dataset.samples[p]):,} {p}" for p in ("train", "valid", "test"))),
        ("split", recipe.data.rules.split.kind), ("seed", str(recipe.seed)), ("data hash", stages.data.key),
    ]
    if recipe.systems:
        facts.insert(2, ("language model", parts.backbone().label))
    for name, system in recipe.systems.items():
        made = stages.system(name).folder / SUMMARY
        facts.append((f"adapters of {name}", f"coupling '{system.coupling.kind}' on {Summary(**read_json(made))}"))
    out = shlex.quote(str(stages.folder))
    return RankingReport(
        title=recipe.about or recipe.name,
        facts=facts,
        systems=[replace(ranked(parts, name), seconds=seconds.get(stages.made(name).name)) for name in stages.names],
        user_N=targets.user_B, rows_hash=rows_hash(parts), candidates=0 if lists is None else lists.shape[1],
        n_items=dataset.n_items, reference=next(iter(recipe.systems), stages.names[0]),
        notes=[*dataset.notes, *findings.about_nano(parts)], seed=recipe.seed,
        commands=[
            ("this run again", f"lifelora run {shlex.quote(str(stages.folder / 'recipe.toml'))} --out ANOTHER_FOLDER"),
            ("the table", f"lifelora show {out}"),
        ],
    )


def ranked(parts: Parts, name: str) -> RankedSystem:
    """What ``evaluate`` kept of the conventional model or system called ``name``."""
    folder = parts.stages.scores(name).require()
    better_tied_N4 = np.load(folder / RANKS, allow_pickle=False).astype(np.int64)
    listed, whole = (Ranks(*pair_N2.T) if (pair_N2 >= 0).all() else None for pair_N2 in np.split(better_tied_N4, 2, axis=1))
    curves = findings.curves(parts.stages.made(name).require())
    if name in parts.recipe.conventional:
        return RankedSystem(name, "conventional", _reads_ids(parts, name), listed, whole, curves)
    kept = read_json(folder / COSTS)
    values = dict(zip(kept["answers"], np.load(folder / ANSWERS, allow_pickle=False).astype(np.float64).T, strict=True))
    costs = {way: PerRow(tokens / kept["rows"], seconds / kept["rows"]) for way, (tokens, seconds) in kept["costs"].items()}
    return RankedSystem(name, "language model", _reads_words(parts, name), listed, whole, curves, answers=values, costs=costs)


def _reads_ids(parts: Parts, name: str) -> str:
    step, train = parts.recipe.conventional[name], len(parts.dataset.samples["train"])
    length = getattr(step.model, "history_length", 0)
    seen = min(step.train_samples or train, train)
    return f"ids; the last {length} behaviours; {seen:,} training rows" if length else "no user"


def _reads_words(parts: Parts, name: str) -> str:
    system, train = parts.recipe.systems[name], len(parts.dataset.samples["train"])
    shots = train if system.train_samples is None else min(system.train_samples, train)
    reads = f"words; {system.behaviours.in_words()}; {shots:,} training rows"
    if system.representation is not None:
        reads += f"; u {findings.maker_of_u(parts, system.representation)}"
    if system.soft is not None:
        reads += f"; {system.item_form} with soft tokens {findings.maker(parts, system.soft.model, 'final')}"
    return reads


def rows_hash(parts: Parts) -> str:
    """16 hexadecimal digits that stand for the test rows and their lists."""
    digest, targets = hashlib.sha256(), parts.dataset.targets(parts.test_samples)
    lists = [parts.lists("test", parts.test_samples)] if "test" in parts.dataset.lists else []
    for array in (targets.user_B, targets.item_B, *lists):
        digest.update(np.ascontiguousarray(array, "<i8").tobytes())
    return digest.hexdigest()[:16]
