"""Prompts that ask which item comes next, and titles as their answers. Knows tokenised lines, not how behaviours were chosen.

    head, a line per behaviour, [the user's soft token,] [announcement, a line per candidate,] question and cue, [answer]

The answer is the title after the cue and the end of its line. The form of a prompt (LLaRA, arXiv 2312.02445) says how its items
stand there: by title, by title and soft token, or by soft token alone, each on a line of its own. A prompt of words alone has no
soft token of the user either.

Of a tree, the trunk ends with the behaviours, or, where titles are the branches (``title_branches``), with the cue.
"""

from collections.abc import Collection
from copy import copy
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from lifelora.data.dataset import Dataset, Targets
from lifelora.errors import ConfigError
from lifelora.prompts.fill import Plan, Prompts, Segments, aligned, spread
from lifelora.prompts.lines.titles import TitleLines, said
from lifelora.prompts.slots import Place
from lifelora.prompts.tree import PromptTrees, TreePlan
from lifelora.prompts.wording.titles import ITEMS, WORDS_ALONE, Form, TitleTemplate
from lifelora.seeds import generator


@final
@dataclass(frozen=True)
class Titles:
    """The answers that each of B rows can be given, as C candidates of up to A tokens, with padding (id 0) at the right."""

    tokens_BCA: Int[Tensor, "B C A"]
    mask_BCA: Bool[Tensor, "B C A"]


@final
class TitleBuilder:
    """Puts prompts together from tokenised lines, by array operations only."""

    def __init__(self, dataset: Dataset, lines: TitleLines, max_tokens: int, seed: int) -> None:
        """``seed`` draws the phrasing of every event; prompts and their answers have ``max_tokens`` together."""
        self.dataset, self.lines, self.max_tokens, self.seed = dataset, lines, max_tokens, seed
        self._phrasing_N = generator(seed, "phrasings").integers(0, len(lines.head_W2), dataset.log.n_prepared, np.int8)

    @classmethod
    def make(
        cls,
        dataset: Dataset,
        template: TitleTemplate,
        tokenizer: Any,
        max_tokens: int,
        seed: int,
        forms: Collection[Form] = WORDS_ALONE,
        soft: Collection[Place] = ITEMS,
    ) -> "TitleBuilder":
        """Tokenise the lines of prompts in these forms first; ``soft`` says whose soft tokens they have."""
        lines = TitleLines.build(dataset, template.phrasings, tokenizer, forms, soft, template)
        return cls(dataset, lines, max_tokens, seed)

    def extended(self, dataset: Dataset) -> "TitleBuilder":
        """This builder for the data set extended: its lines are shared, and what is new is tokenised. It asks; phrasings for
        learning were drawn for the prepared events alone.
        """
        other = copy(self)
        other.dataset, other.lines = dataset, self.lines.extended(dataset)
        return other

    @property
    def highest(self) -> int:
        """The highest number of a token that a prompt or its answer can have."""
        return int(self.lines.tokens_T.max())

    def question(
        self,
        targets: Targets,
        chosen_BK: Int[np.ndarray, "B K"],
        mask_BK: Bool[np.ndarray, "B K"],
        candidates_BC: Int[np.ndarray, "B C"] | None = None,
        form: Form = "text",
    ) -> Prompts:
        """Asked in the first phrasing, about users who are shown the event rows ``chosen_BK``, from left to right.

        Without candidates the answer is any item of the catalogue, and none is listed. Raises ConfigError where a target is
        none of its candidates, and, naming the item, where there is no room even with no behaviour shown.
        """
        return Plan.of(*self._segments(targets, chosen_BK, mask_BK, candidates_BC, form)).fill()

    def answered(
        self,
        targets: Targets,
        chosen_BK: Int[np.ndarray, "B K"],
        mask_BK: Bool[np.ndarray, "B K"],
        candidates_BC: Int[np.ndarray, "B C"] | None = None,
        form: Form = "text",
        start_B: Int[np.ndarray, "B"] | None = None,
    ) -> Prompts:
        """What is learnt from: with the answer, and in the phrasing that was drawn for the event.

        Or in that of the user's event at ``start_B``, where samples in a row share a history: a trunk has one phrasing.
        """
        phrasing_B, answer_B = self._drawn(targets, start_B), self.lines.answer_M[targets.item_B]
        plan = Plan.of(*self._segments(targets, chosen_BK, mask_BK, candidates_BC, form, phrasing_B)).then(answer_B)
        length_B = self.lines.lengths[answer_B]
        longest = int(length_B.max(initial=0))
        return plan.fill(np.arange(longest) >= longest - length_B[:, None])

    def trees(
        self,
        targets: Targets,
        chosen_BK: Int[np.ndarray, "B K"],
        mask_BK: Bool[np.ndarray, "B K"],
        trunk_B: Int[np.ndarray, "B"],
        candidates_BC: Int[np.ndarray, "B C"] | None = None,
        form: Form = "text",
    ) -> PromptTrees:
        """What ``question`` makes, as trees: targets with one number in ``trunk_B`` hang on one trunk (``TreePlan.of``)."""
        segments = self._segments(targets, chosen_BK, mask_BK, candidates_BC, form)
        return TreePlan.of(*segments, event_BK=chosen_BK, trunk_B=trunk_B).fill()

    def answered_trees(
        self,
        targets: Targets,
        chosen_BK: Int[np.ndarray, "B K"],
        mask_BK: Bool[np.ndarray, "B K"],
        trunk_B: Int[np.ndarray, "B"],
        candidates_BC: Int[np.ndarray, "B C"] | None = None,
        form: Form = "text",
        start_B: Int[np.ndarray, "B"] | None = None,
    ) -> PromptTrees:
        """What ``answered`` makes, as trees; ``start_B`` is one position for all of a trunk."""
        segments = self._segments(targets, chosen_BK, mask_BK, candidates_BC, form, self._drawn(targets, start_B))
        answer_B = self.lines.answer_M[targets.item_B]
        return TreePlan.of(*segments, event_BK=chosen_BK, trunk_B=trunk_B).then(answer_B).fill(self.lines.lengths[answer_B])

    def lengths(
        self,
        targets: Targets,
        chosen_BK: Int[np.ndarray, "B K"],
        mask_BK: Bool[np.ndarray, "B K"],
        candidates_BC: Int[np.ndarray, "B C"] | None = None,
        form: Form = "text",
    ) -> Int[np.ndarray, "B"]:
        """How many tokens each prompt has that ``question`` would make."""
        return Plan.of(*self._segments(targets, chosen_BK, mask_BK, candidates_BC, form)).lengths

    def tree_lengths(
        self,
        targets: Targets,
        chosen_BK: Int[np.ndarray, "B K"],
        mask_BK: Bool[np.ndarray, "B K"],
        trunk_B: Int[np.ndarray, "B"],
        candidates_BC: Int[np.ndarray, "B C"] | None = None,
        form: Form = "text",
    ) -> tuple[Int[np.ndarray, "R"], Int[np.ndarray, "B"], Int[np.ndarray, "B"]]:
        """The tokens of each trunk and of each branch that ``trees`` would make, and the tree of each branch."""
        segments = self._segments(targets, chosen_BK, mask_BK, candidates_BC, form)
        return TreePlan.of(*segments, event_BK=chosen_BK, trunk_B=trunk_B).lengths

    def titles(self, items_BC: Int[np.ndarray, "B C"]) -> Titles:
        """The answers that these items would be."""
        part_BC = self.lines.answer_M[items_BC]
        length_BC = self.lines.lengths[part_BC]
        mask_BCA = aligned(length_BC, "left")
        tokens_BCA = spread(self.lines.joined(part_BC, length_BC), mask_BCA, 0)
        return Titles(torch.from_numpy(tokens_BCA), torch.from_numpy(mask_BCA))

    def _drawn(self, targets: Targets, start_B: Int[np.ndarray, "B"] | None) -> Int[np.ndarray, "B"]:
        return np.asarray(
            self._phrasing_N[self.dataset.log.rows(targets.user_B, targets.position_B if start_B is None else start_B)]
        )

    def _segments(
        self,
        targets: Targets,
        chosen_BK: Int[np.ndarray, "B K"],
        mask_BK: Bool[np.ndarray, "B K"],
        candidates_BC: Int[np.ndarray, "B C"] | None,
        form: Form,
        phrasing_B: Int[np.ndarray, "B"] | None = None,
    ) -> Segments:
        """What ``Plan.of`` asks for, in the first phrasing or in that of each."""
        lines, lengths_N = self.lines, self.lines.lengths
        phrasing_B = np.zeros(len(targets), np.int8) if phrasing_B is None else phrasing_B
        if form not in lines.behaviour_MW:
            raise ConfigError(
                f"there are no lines for prompts of form '{form}', only of {', '.join(lines.behaviour_MW)}; name "
                "it in forms = … where the lines are made."
            )
        user_W, none_B = lines.user_in(form), np.full(len(targets), -1)
        rest, items = list[np.ndarray](), [none_B, self.dataset.item_N[chosen_BK]]  # items begin with the head
        if user_W is not None:
            rest.append(user_W[phrasing_B])
            items.append(none_B)
        # Room is kept for the longest answer that could be given, so that what is shown does not tell which is right.
        if candidates_BC is None:
            longest_B = np.full(len(targets), lines.longest_answer)
        else:
            self._check_answers(targets, candidates_BC)
            longest_B = lengths_N[lines.answer_M[candidates_BC]].max(axis=1, initial=0)
            rest += [lines.announcement_W[phrasing_B], said(lines.candidate_MW[form], candidates_BC, phrasing_B[:, None])]
            items += [none_B, candidates_BC]
        rest.append(lines.question_W[phrasing_B])
        items.append(none_B)
        behaviour_BK = said(lines.behaviour_MW[form], self.dataset.item_N[chosen_BK], phrasing_B[:, None])
        count = 0 if candidates_BC is None else candidates_BC.shape[1]

        def refuse(row: int, needed: int) -> None:
            raise ConfigError(
                f"the question whose answer is {self._named(targets, row)} needs {needed + longest_B[row]} tokens "
                f"with {count} candidates, the longest answer and no behaviour, and max_tokens = {self.max_tokens}; raise "
                "max_tokens or list fewer candidates (data.rules.candidates.count)."
            )

        return (
            lines,
            lines.head_W2[phrasing_B],
            behaviour_BK,
            mask_BK,
            np.column_stack(rest),
            self.max_tokens - longest_B,
            refuse,
            None if form == "text" else np.column_stack(items),
        )

    def _check_answers(self, targets: Targets, candidates_BC: Int[np.ndarray, "B C"]) -> None:
        # In a released LastFM set the list is one drawn item, so that no answer could ever be right.
        missing_B = ~(candidates_BC == targets.item_B[:, None]).any(axis=1)
        if missing_B.any():
            place = int(missing_B.argmax())
            raise ConfigError(
                f"row {place} of the batch: {self._named(targets, place)} is to be found and is none of its "
                f"{candidates_BC.shape[1]} candidates; give each row the list that was drawn for it."
            )

    def _named(self, targets: Targets, place: int) -> str:
        item = int(targets.item_B[place])
        return f"item '{self.dataset.items.outside(np.array([item]))[0]}' ({self.dataset.titles[item]!r})"


def title_branches(prompts: Prompts, titles: Titles) -> PromptTrees:
    """Trees of questions, whose branches are the titles that may answer them: C of each row, row after row.

    Raises ConfigError for prompts that have their answers.
    """
    if prompts.answer_BA is not None:
        raise ConfigError("these prompts already have their answers: ask with TitleBuilder.question.")
    B, C, _ = titles.mask_BCA.shape
    trunk_R, title_G = prompts.mask_BL.sum(dim=1), titles.mask_BCA.sum(dim=2).flatten()
    tree_G = torch.arange(B, device=title_G.device).repeat_interleave(C)
    soft_L = None
    if prompts.soft_BL is not None:
        soft_L = torch.cat([prompts.soft_BL[prompts.mask_BL], prompts.soft_BL.new_full((int(title_G.sum()),), -1)])
    return PromptTrees(
        torch.cat([prompts.tokens_BL[prompts.mask_BL], titles.tokens_BCA[titles.mask_BCA]]),
        trunk_R,
        title_G,
        tree_G,
        trunk_R[tree_G],
        prompts.shown_B[tree_G],
        soft_L,
        title_G,
        prompts.question_B,
    )
