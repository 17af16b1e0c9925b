"""A blend: the scores of other scorers, weighed together. Knows its members as scorers, and asks them only what is not kept.

    ctr:        P(like) = σ(b + Σ_j w_j · logit p_j)
    next-item:  P(c comes next, of the candidates) = softmax_c(Σ_j w_j · s_jc)

The weights are those of the highest likelihood on validation samples (``weights``). Scores of candidates are taken as they are,
a constant of each list aside, which a softmax does not see. So a log-likelihood and a logit of a softmax are the same thing, a
log-probability, and a weight is the power to which a member's distribution is taken. Counts enter as they are, too. Scaling each
list apart would forget that a member is surer of one list than of another.
"""

import json
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int
from scipy.special import expit, logit, softmax

from lifelora.artefacts import read_json, write_atomically
from lifelora.data.dataset import Targets
from lifelora.errors import ConfigError
from lifelora.evaluation.metrics import CLIP
from lifelora.llm.cost import Cost
from lifelora.recipe.sections import Blend
from lifelora.run.context import Context
from lifelora.run.scorers.base import CatalogueScores, Requests, Scorer, Validate
from lifelora.run.scorers.catalogue import leave_out_seen, lifted
from lifelora.run.scorers.conventional import ConventionalScorer
from lifelora.run.scorers.kept import of_test, of_validation, shortlists_of_test
from lifelora.run.scorers.weights import Fitted, conditional, logistic
from lifelora.stage import Stage

WEIGHTS = "weights.json"


class BlendScorer(Scorer):
    """What both tasks have of a blend."""

    family = "blend"

    def __init__(self, context: Context, name: str, stage: Stage, config: Blend, members: Sequence[Scorer]) -> None:
        super().__init__(context, name, stage)
        self.config, self.members = config, list(members)
        self.shortlist = min((one.shortlist for one in members if one.shortlist is not None), default=None)
        retrievers = [one.retriever for one in members if one.retriever is not None]
        self.retriever = next((one for one in [*retrievers, *members] if isinstance(one, ConventionalScorer)), None)
        self.ids_alone = all(one.ids_alone for one in members)

    @property
    def sees_target(self) -> bool:
        return any(one.sees_target for one in self.members)

    @property
    def validation_count(self) -> int | None:
        return self.config.validation_samples

    @cached_property
    def weights(self) -> Fitted:
        """As they were fitted."""
        kept = read_json(self.stage.require() / WEIGHTS)
        of = [kept["members"][one.name] for one in self.members]
        return Fitted(kept["bias"], tuple(m["weight"] for m in of), tuple(m["spread"] for m in of), kept["samples"])

    def train(self, folder: Path, validate: Validate) -> None:
        """Fit the weights to what is kept of the members' validation samples: no member is asked."""
        rows = self.context.validation_samples(self.config.validation_samples)
        if not len(rows):
            raise ConfigError(f"blends.{self.name}: there are no validation samples to fit weights on; choose a split with some.")
        for one in self.members:
            self.context.stages.validation(one.name).require()
        said = self._said(rows)
        assert said is not None  # each stage holds as many samples as any blend asks for
        self.weights = found = self.fitted([self.evidence(score_NC) for score_NC in said], self._samples(rows))
        members = {
            one.name: {"weight": weight, "spread": spread}
            for one, weight, spread in zip(self.members, found.weights, found.spread, strict=True)
        }
        told = {"bias": found.bias, "members": members, "samples": found.samples}
        write_atomically(folder / WEIGHTS, json.dumps(told, indent=1))

    @abstractmethod
    def evidence(self, score_NC: Float[np.ndarray, "N C"]) -> Float[np.ndarray, "N C"]:
        """What a weight is multiplied by, of a member's scores."""

    @abstractmethod
    def fitted(self, evidence: Sequence[Float[np.ndarray, "N C"]], samples: Requests) -> Fitted:
        """The weights of the highest likelihood."""

    @abstractmethod
    def weighed(self, said: Sequence[Float[np.ndarray, "N C"]]) -> Float[np.ndarray, "N C"]:
        """The blend's scores, of each member's."""

    def sum(self, said: Sequence[Float[np.ndarray, "N C"]]) -> Float[np.ndarray, "N C"]:
        """b + Σ_j w_j s_j, in this order, so that candidates of which all members say the same have the same sum."""
        total_NC = np.full(said[0].shape, self.weights.bias)
        for weight, score_NC in zip(self.weights.weights, said, strict=True):
            total_NC += weight * self.evidence(score_NC)
        return total_NC

    def score(self, requests: Requests, said: str | None = None) -> Float[np.ndarray, "N C"]:
        return self.weighed([one.score(requests, None if said is None else f"{said}, by {one.name}") for one in self.members])

    def judged(self, requests: Requests, said: str | None = None) -> Float[np.ndarray, "N C"]:
        return self.weighed([of_test(self.context, one.name) for one in self.members])

    def validated(self, rows_N: Int[np.ndarray, "N"]) -> Float[np.ndarray, "N C"] | None:
        said = self._said(rows_N)
        return None if said is None else self.weighed(said)

    def shown(self, requests: Requests) -> Sequence[Int[np.ndarray, "_"]]:
        """What the first member is shown that is shown anything."""
        shown = [one.shown(requests) for one in self.members if not one.ids_alone]
        return shown[0] if shown else super().shown(requests)

    def unaided(self, items_C: Int[np.ndarray, "C"]) -> Int[np.ndarray, "C"]:
        for one in self.members:
            items_C = one.unaided(items_C)
        return items_C

    def spent(self) -> Cost:
        """What its members have taken, for it or for themselves."""
        total = Cost()
        for one in self.members:
            total.add(one.spent())
        return total

    def reads(self) -> str:
        found = self.weights
        terms = [(weight, f"{abs(weight):.3g} · {one.name}") for weight, one in zip(found.weights, self.members, strict=True)]
        terms += [(found.bias, f"{abs(found.bias):.3g}")] if found.bias else []
        formula = " ".join(f"{'−' if value < 0 else '+'} {text}" for value, text in terms)
        return f"{formula.removeprefix('+ ')}, fitted on {found.samples:,} validation samples"

    def _said(self, rows_N: Int[np.ndarray, "N"]) -> list[Float[np.ndarray, "N C"]] | None:
        said = [of_validation(self.context, one.name, rows_N) for one in self.members]
        known = [one for one in said if one is not None]
        return known if len(known) == len(said) else None

    def _samples(self, rows_N: Int[np.ndarray, "N"]) -> Requests:
        return Requests(self.context.dataset.targets(rows_N), self.context.candidates("valid", rows_N))


class LikeBlend(BlendScorer):
    """A blend of probabilities that the user likes the item; they are kept inside [CLIP, 1 - CLIP], as for the log loss."""

    def evidence(self, score_NC: Float[np.ndarray, "N C"]) -> Float[np.ndarray, "N C"]:
        made: Float[np.ndarray, "N C"] = logit(np.clip(score_NC, CLIP, 1 - CLIP))
        return made

    def fitted(self, evidence: Sequence[Float[np.ndarray, "N C"]], samples: Requests) -> Fitted:
        label_N = np.asarray(samples.targets.label_B, np.bool_)
        if label_N.all() or not label_N.any():
            raise ConfigError(
                f"blends.{self.name}.validation_samples = {self.config.validation_samples}: all {len(label_N):,} have the same "
                "answer, and weights need both; give more."
            )
        return logistic(np.column_stack([one_N1[:, 0] for one_N1 in evidence]), label_N)

    def weighed(self, said: Sequence[Float[np.ndarray, "N C"]]) -> Float[np.ndarray, "N C"]:
        made: Float[np.ndarray, "N C"] = expit(self.sum(said))
        return made

    def over(self, targets: Targets, items_P: Int[np.ndarray, "P"]) -> Float[np.ndarray, "B P"] | None:
        made = [one.over(targets, items_P) for one in self.members]
        known = [one for one in made if one is not None]
        return self.weighed(known) if len(known) == len(made) else None


class RankingBlend(BlendScorer):
    """A blend of scores of candidates. An item of which a member knows nothing (-inf) gets the mean of its scores in the list."""

    def evidence(self, score_NC: Float[np.ndarray, "N C"]) -> Float[np.ndarray, "N C"]:
        known_NC = np.isfinite(score_NC)
        plain_NC = np.where(known_NC, score_NC, 0.0).astype(np.float64)
        mean_N1 = plain_NC.sum(axis=1, keepdims=True) / np.maximum(known_NC.sum(axis=1, keepdims=True), 1)
        return np.where(known_NC, plain_NC - mean_N1, 0.0)

    def fitted(self, evidence: Sequence[Float[np.ndarray, "N C"]], samples: Requests) -> Fitted:
        own_NC = samples.candidates == samples.targets.item_B[:, None]
        return conditional(np.stack(evidence, axis=2), own_NC.argmax(axis=1))

    def weighed(self, said: Sequence[Float[np.ndarray, "N C"]]) -> Float[np.ndarray, "N C"]:
        unknown_NC = ~np.isfinite(said).any(axis=0)
        return np.where(unknown_NC, -np.inf, self.sum(said))

    def probabilities(self, requests: Requests) -> Float[np.ndarray, "N C"]:
        """That each candidate comes next, of those that are listed."""
        made: Float[np.ndarray, "N C"] = softmax(self.score(requests), axis=1)
        return made

    def over(self, targets: Targets, items_P: Int[np.ndarray, "P"]) -> Float[np.ndarray, "B P"] | None:
        """That each item comes next, of the whole catalogue."""
        blocks = self.catalogue(targets)
        return None if blocks is None else np.concatenate([softmax(of_all_BM, axis=1)[:, items_P] for _, of_all_BM in blocks])

    def catalogue(self, targets: Targets, said: str | None = None) -> CatalogueScores | None:
        """Where each member ranks all items by itself."""
        blocks = [one.catalogue(targets) for one in self.members if one.shortlist is None]
        known = [one for one in blocks if one is not None]
        return self._catalogue(known) if len(known) == len(self.members) else None

    def _catalogue(self, members: Sequence[CatalogueScores]) -> Iterator[tuple[slice, Float[np.ndarray, "B M"]]]:
        for together in zip(*members, strict=True):
            yield together[0][0], self.weighed([of_all_BM.astype(np.float64) for _, of_all_BM in together])

    def judged_catalogue(self, targets: Targets, said: str | None = None) -> CatalogueScores | None:
        """Where language models are members, the shortlist that all of them ranked is put in order; the rest stays."""
        short = {one.name: shortlists_of_test(self.context, one.name) for one in self.members if one.shortlist is not None}
        if not short:
            return self.catalogue(targets, said)
        kept = {name: one for name, one in short.items() if one is not None}
        lists = [item_NS for item_NS, _ in kept.values()]
        blocks = {one.name: one.catalogue(targets) for one in self.members if one.shortlist is None}
        known = {name: one for name, one in blocks.items() if one is not None}
        first = None if self.retriever is None else self.retriever.catalogue(targets, said)
        alike = all(np.array_equal(lists[0], other) for other in lists[1:]) if lists else False
        if first is None or not alike or len(kept) + len(known) < len(self.members):
            return None
        return self._two_stages(targets, first, lists[0], {name: score_NS for name, (_, score_NS) in kept.items()}, known)

    def _two_stages(
        self,
        targets: Targets,
        first: CatalogueScores,
        item_NS: Int[np.ndarray, "N S"],
        kept: Mapping[str, Float[np.ndarray, "N S"]],
        others: Mapping[str, CatalogueScores],
    ) -> Iterator[tuple[slice, Float[np.ndarray, "B M"]]]:
        for some, first_BM in first:
            leave_out_seen(first_BM, self.context.dataset, targets.at(some))
            item_BS = item_NS[some]
            left_out_BS = item_BS < 0
            said = {name: score_NS[some] for name, score_NS in kept.items()}
            for name, blocks in others.items():
                said[name] = np.take_along_axis(next(blocks)[1], np.maximum(item_BS, 0), axis=1).astype(np.float64)
            among_BS = self.weighed([np.where(left_out_BS, -np.inf, said[one.name]) for one in self.members])
            yield some, lifted(first_BM, item_BS, among_BS)
