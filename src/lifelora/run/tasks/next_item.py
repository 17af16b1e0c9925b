"""The task next-item: which item comes next, among candidates and in the whole catalogue. Knows scorers, draws no list."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from lifelora.artefacts import read_json
from lifelora.data.dataset import Targets
from lifelora.evaluation.jackknife import Jackknifed, Rows, jackknife_means
from lifelora.evaluation.lists import K, Lists, bits
from lifelora.evaluation.measured import Validated, figures
from lifelora.evaluation.ranking_report import RankedSystem, RankingReport, measure, plain_table, row_values
from lifelora.evaluation.ranks import Ranks
from lifelora.llm.cost import Cost
from lifelora.run.scorers.base import CatalogueScores, Requests, Scorer
from lifelora.run.scorers.blend import RankingBlend
from lifelora.run.scorers.catalogue import first, leave_out_seen
from lifelora.run.scorers.conventional import NextItemModel
from lifelora.run.scorers.costs import COSTS, counted, keep_costs
from lifelora.run.scorers.kept import keep_scores, keep_shortlists
from lifelora.run.scorers.titles import Titles, candidates_of
from lifelora.run.tasks.base import Seconds, Task, curves, keep
from lifelora.types import Part

RANKS, TOP, ANSWERS = "ranks.npy", "top.npy", "answers.npy"


class NextItem(Task):
    """The rank of the item that came next."""

    conventional = NextItemModel
    language = Titles
    blend = RankingBlend

    def requests(self, part: Part, rows_N: Int[np.ndarray, "N"]) -> Requests:
        return Requests(self.context.dataset.targets(rows_N), self.context.candidates(part, rows_N))

    def asked(self, user_B: Int[np.ndarray, "B"], items_BC: Int[np.ndarray, "B C"]) -> Requests:
        return candidates_of(self.context.dataset.candidates(user_B, items_BC[:, 0]), items_BC)

    def metrics(self, scorer: Scorer, requests: Requests, score_NC: Float[np.ndarray, "N C"] | None = None) -> dict[str, float]:
        """AUC (the share of other candidates behind the target), HR@1, NDCG@10 and MRR; of the catalogue without lists."""
        among = requests.candidates.shape[1]
        if requests.listed_NC is not None:
            ranks = among_candidates(scorer.score(requests) if score_NC is None else score_NC, requests)
        else:
            found, among = self.in_catalogue(scorer, requests.targets), self.context.dataset.n_items
            assert found is not None
            ranks = found.ranks
        before_N = ranks.better_N + (ranks.tied_N - 1) / 2
        return {
            "auc": float(1 - before_N.mean() / (among - 1)),
            "hr1": float(ranks.hit(1).mean()),
            "ndcg10": float(ranks.ndcg(10).mean()),
            "mrr": float(ranks.reciprocal().mean()),
        }

    def in_catalogue(self, scorer: Scorer, targets: Targets, said: str | None = None) -> "InCatalogue | None":
        """Where they stand among all items that their users had not seen; None where a scorer ranks no catalogue.

        A target that comes again is one all the same.
        """
        return self.ranked_in(scorer.catalogue(targets, said), targets)

    def ranked_in(self, blocks: CatalogueScores | None, targets: Targets, short: int | None = None) -> "InCatalogue | None":
        """The same of scores, of which the first ``short`` are kept."""
        found, top, shorts = list[Ranks](), list[Int[np.ndarray, "B K"]](), list[tuple[np.ndarray, np.ndarray]]()
        if blocks is None:
            return None
        for some, score_BM in blocks:
            leave_out_seen(score_BM, self.context.dataset, targets.at(some))
            found.append(Ranks.of(score_BM, targets.item_B[some]))
            top.append(first(score_BM, K))
            if short:
                item_BS = first(score_BM, short)
                shorts.append((item_BS, np.take_along_axis(score_BM, np.maximum(item_BS, 0), axis=1)))
        ranks = Ranks(np.concatenate([r.better_N for r in found]), np.concatenate([r.tied_N for r in found]))
        return InCatalogue(ranks, np.concatenate(top), [np.concatenate(column) for column in zip(*shorts, strict=True)])

    def judge(self, scorer: Scorer, folder: Path) -> None:
        """Keep the scores of the candidates, and the ranks: better and tied ones among them, then of all items (-1: none).

        Keep the first items of the catalogue, too; and where a scorer can be asked for one title, its answers, and what each
        way took.
        """
        requests, evaluation, name = self.requests("test", self.context.test_samples), self.context.recipe.evaluation, scorer.name
        listed, took = None, Cost()
        if requests.listed_NC is not None:
            score_NC, took = counted(scorer, lambda: scorer.judged(requests, f"{name}: ranking candidates"))
            keep_scores(folder, score_NC)
            listed = among_candidates(score_NC, requests)
        answers = scorer.answers(requests, evaluation.beams, evaluation.written_tokens, f"{name}: answering with a title")
        blocks = scorer.judged_catalogue(requests.targets, f"{name}: ranking the catalogue")
        all_items, took_whole = counted(scorer, lambda: self.ranked_in(blocks, requests.targets, scorer.shortlist))
        costs = {f"likelihoods of {requests.candidates.shape[1]} titles": took, **answers.costs}
        if scorer.retriever is not None:
            costs[f"after {scorer.retriever.name}: likelihoods of {scorer.shortlist} titles"] = took_whole
        none, whole = np.full(len(requests), -1), None if all_items is None else all_items.ranks
        columns = [column for found in (listed, whole) for column in ((found.better_N, found.tied_N) if found else (none, none))]
        np.save(folder / RANKS, np.stack(columns, axis=1).astype(np.int32))
        if all_items is not None:
            np.save(folder / TOP, all_items.top_NK.astype(np.int32))
            if all_items.short:
                keep_shortlists(folder, *all_items.short)
        if answers.values:
            np.save(folder / ANSWERS, np.stack(list(answers.values.values()), axis=1).astype(np.float32))
        if answers.values or took.tokens:
            keep_costs(folder, costs, len(requests), answers=list(answers.values))

    def ranked(self, name: str) -> RankedSystem:
        """What ``judge`` kept of a scorer."""
        scorer, folder = self.scorers[name], self.context.stages.scores(name).require()
        better_tied_N4 = np.load(folder / RANKS, allow_pickle=False).astype(np.int64)
        listed, whole = (Ranks(*pair_N2.T) if (pair_N2 >= 0).all() else None for pair_N2 in np.split(better_tied_N4, 2, axis=1))
        lists = Lists(np.load(folder / TOP, allow_pickle=False), self._bits) if (folder / TOP).exists() else None
        found = RankedSystem(
            name,
            self.family(name),
            scorer.reads(),
            listed,
            whole,
            curves(scorer.stage.require()),
            lists=lists,
            costs=self.costs(name),
        )
        if not (folder / ANSWERS).exists():
            return found
        values = np.load(folder / ANSWERS, allow_pickle=False).astype(np.float64).T
        return replace(found, answers=dict(zip(read_json(folder / COSTS)["answers"], values, strict=True)))

    @cached_property
    def _bits(self) -> Float[np.ndarray, "M"]:
        """How little known each item was in training."""
        dataset = self.context.dataset
        rows = dataset.training_events()
        return bits(dataset.user_N[rows], dataset.item_N[rows], dataset.n_items)

    def judged(self, name: str, others: Sequence[Task] = ()) -> Jackknifed:
        return jackknife_means(
            [
                Rows(
                    run.context.dataset.targets(run.context.test_samples).user_B, row_values(run.ranked(name)), run.samples_hash()
                )
                for run in (self, *others)
                if isinstance(run, NextItem)
            ]
        )

    def samples_hash(self) -> str:
        """16 hexadecimal digits that stand for the test samples and their lists."""
        digest, requests = hashlib.sha256(), self.requests("test", self.context.test_samples)
        lists = [] if requests.listed_NC is None else [requests.listed_NC]
        for array in (requests.targets.user_B, requests.targets.item_B, *lists):
            digest.update(np.ascontiguousarray(array, "<i8").tobytes())
        return digest.hexdigest()[:16]

    def report(self, seconds: Seconds, folder: Path, validated: Validated | None = None) -> None:
        from lifelora.evaluation.page import write_ranking  # matplotlib only when a page is asked for

        report = replace(self.gather(seconds), validated=validated)
        measured = measure(report)
        write_ranking(folder, report, measured)
        keep(folder, figures(measured), plain_table(measured))

    def gather(self, seconds: Seconds) -> RankingReport:
        """Everything that the page tells."""
        context, recipe, dataset = self.context, self.context.recipe, self.context.dataset
        lists, targets = dataset.lists.get("test"), dataset.targets(context.test_samples)
        of_target_N, of_user_N = self.training_counts(targets)
        return RankingReport(
            title=recipe.about or recipe.name,
            facts=self.facts(),
            systems=[replace(self.ranked(name), seconds=seconds.get(scorer.stage.name)) for name, scorer in self.scorers.items()],
            user_N=targets.user_B,
            history_N=targets.position_B,
            target_events_N=of_target_N,
            user_events_N=of_user_N,
            rows_hash=self.samples_hash(),
            candidates=0 if lists is None else lists.shape[1],
            n_items=dataset.n_items,
            reference=next(iter(recipe.systems), next(iter(self.scorers))),
            controls=self.controls(),
            notes=[*dataset.notes, *self.about_prompts(), *self.about_nano()],
            seed=recipe.seed,
            commands=self.commands(),
            pairs=self.pairs,
        )


def among_candidates(score_NC: Float[np.ndarray, "N C"], requests: Requests) -> Ranks:
    """Where the targets stand among their candidates."""
    return Ranks.of(score_NC, (requests.candidates == requests.targets.item_B[:, None]).argmax(axis=1))


@dataclass(frozen=True, eq=False)
class InCatalogue:
    """What a scorer made of the whole catalogue."""

    ranks: Ranks
    top_NK: Int[np.ndarray, "N K"]
    "The first items of each, as ``first`` has them."
    short: Sequence[np.ndarray] = ()
    "The items of a shortlist and their scores, where a scorer ranks one."
