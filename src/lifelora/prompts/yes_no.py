"""Prompts that are answered yes or no. Knows tokenised lines, not how behaviours were chosen.

head, a line per behaviour, [the user's soft token,] question and cue        the answer comes right after the last token
"""

from collections.abc import Collection
from copy import copy
from dataclasses import dataclass
from functools import partial
from typing import Any, final

import numpy as np
from jaxtyping import Bool, Int

from lifelora.data.dataset import Dataset, Targets
from lifelora.errors import ConfigError
from lifelora.prompts.chat import spelled
from lifelora.prompts.fill import Plan, Prompts, Segments
from lifelora.prompts.lines.yes_no import YesNoLines
from lifelora.prompts.slots import Place
from lifelora.prompts.tree import PromptTrees, TreePlan
from lifelora.prompts.wording.yes_no import Template


@dataclass(frozen=True)
class Answers:
    """Where the LM says yes or no: the first token in which the two answers differ."""

    yes: int
    no: int
    shared: tuple[int, ...] = ()
    "Tokens with which both answers begin (a lone space, with some tokenizers); they belong to the prompt."


def find_answers(tokenizer: Any, template: Template) -> Answers:
    """The answer tokens in their place after the cue, whatever the tokenizer is.

    Raises ConfigError where the two words begin with no different token, or change the tokens of the cue.
    """
    line_tokenizer, (own,) = spelled([template], tokenizer, template)
    cue, yes, no = (line_tokenizer.whole(f"{own.history}\n{own.cue}{word}") for word in ("", *own.words))
    for word, ids in ((template.yes, yes), (template.no, no)):
        if ids[: len(cue)] != cue:
            raise ConfigError(
                f"the tokenizer joins the answer {word!r} to the end of the cue {template.answer!r}; change "
                "template.answer or the answer's first character so that a token ends between them."
            )
    place = next((i for i, (a, b) in enumerate(zip(yes, no, strict=False)) if a != b), None)
    if place is None:
        raise ConfigError(
            f"the tokenizer gives {yes[len(cue) :]} for {template.yes!r} and {no[len(cue) :]} for {template.no!r}: no "
            "token tells them apart. Choose other words for template.yes and template.no."
        )
    return Answers(yes[place], no[place], tuple(yes[len(cue) : place]))


@final
class YesNoBuilder:
    """Puts prompts together from tokenised lines, by array operations only."""

    def __init__(
        self, dataset: Dataset, lines: YesNoLines, answers: Answers, max_tokens: int, soft: Collection[Place] = ()
    ) -> None:
        """``soft`` says whose soft tokens the lines have."""
        self.dataset, self.answers, self.max_tokens, self.soft = dataset, answers, max_tokens, soft
        # What both answers begin with ends every prompt.
        self._shared = [len(lines.lengths)] if answers.shared else []
        self.lines = lines.longer([np.array(answers.shared, np.int32)]) if answers.shared else lines

    @classmethod
    def make(
        cls, dataset: Dataset, template: Template, tokenizer: Any, max_tokens: int, soft: Collection[Place] = ()
    ) -> "YesNoBuilder":
        """Tokenise the lines and find the answers first."""
        lines = YesNoLines.build(dataset, template, tokenizer, soft)
        return cls(dataset, lines, find_answers(tokenizer, template), max_tokens, soft)

    def extended(self, dataset: Dataset) -> "YesNoBuilder":
        """This builder for the data set extended: its lines are shared, and what is new is tokenised."""
        other = copy(self)
        other.dataset, other.lines = dataset, self.lines.extended(dataset)
        return other

    @property
    def highest(self) -> int:
        """The highest number of a token that a prompt or its answer can have."""
        return max(int(self.lines.tokens_T.max()), self.answers.yes, self.answers.no)

    def build(self, targets: Targets, chosen_BK: Int[np.ndarray, "B K"], mask_BK: Bool[np.ndarray, "B K"]) -> Prompts:
        """Prompts about ``targets`` that show the event rows ``chosen_BK``, from left to right.

        Raises ConfigError, naming the item, where a question has no room even with no behaviour shown.
        """
        return self._plan(targets, chosen_BK, mask_BK).fill()

    def lengths(
        self, targets: Targets, chosen_BK: Int[np.ndarray, "B K"], mask_BK: Bool[np.ndarray, "B K"]
    ) -> Int[np.ndarray, "B"]:
        """How many tokens each prompt has that ``build`` would make."""
        return self._plan(targets, chosen_BK, mask_BK).lengths

    def kept(self, targets: Targets, chosen_BK: Int[np.ndarray, "B K"], mask_BK: Bool[np.ndarray, "B K"]) -> Int[np.ndarray, "B"]:
        """How many of the chosen behaviours find room in each prompt that ``build`` would make."""
        return self._plan(targets, chosen_BK, mask_BK).shown_B

    def trees(
        self,
        targets: Targets,
        chosen_BK: Int[np.ndarray, "B K"],
        mask_BK: Bool[np.ndarray, "B K"],
        trunk_B: Int[np.ndarray, "B"],
    ) -> PromptTrees:
        """What ``build`` makes, as trees: targets with one number in ``trunk_B`` hang on one trunk (``TreePlan.of``)."""
        return self._tree_plan(targets, chosen_BK, mask_BK, trunk_B).fill()

    def tree_lengths(
        self,
        targets: Targets,
        chosen_BK: Int[np.ndarray, "B K"],
        mask_BK: Bool[np.ndarray, "B K"],
        trunk_B: Int[np.ndarray, "B"],
    ) -> tuple[Int[np.ndarray, "R"], Int[np.ndarray, "B"], Int[np.ndarray, "B"]]:
        """The tokens of each trunk and of each branch that ``trees`` would make, and the tree of each branch."""
        return self._tree_plan(targets, chosen_BK, mask_BK, trunk_B).lengths

    def _plan(self, targets: Targets, chosen_BK: Int[np.ndarray, "B K"], mask_BK: Bool[np.ndarray, "B K"]) -> Plan:
        return Plan.of(*self._segments(targets, chosen_BK, mask_BK))

    def _tree_plan(
        self,
        targets: Targets,
        chosen_BK: Int[np.ndarray, "B K"],
        mask_BK: Bool[np.ndarray, "B K"],
        trunk_B: Int[np.ndarray, "B"],
    ) -> TreePlan:
        return TreePlan.of(*self._segments(targets, chosen_BK, mask_BK), event_BK=chosen_BK, trunk_B=trunk_B)

    def _segments(self, targets: Targets, chosen_BK: Int[np.ndarray, "B K"], mask_BK: Bool[np.ndarray, "B K"]) -> Segments:
        """What ``Plan.of`` asks for."""
        lines, count = self.lines, len(targets)
        behaviour_BK = lines.behaviours(self.dataset.item_N[chosen_BK], self.dataset.rating_N[chosen_BK])
        assert not np.any(mask_BK & (behaviour_BK < 0)), "an event of the log has no line"
        shared_BS, none_B = np.tile(np.array(self._shared, np.int64), (count, 1)), np.full(count, -1)
        rest_BS, item_BS = np.column_stack([lines.question_M[targets.item_B], shared_BS]), None
        if self.soft:
            item_BS = np.column_stack([none_B, self.dataset.item_N[chosen_BK], targets.item_B, np.full_like(shared_BS, -1)])
        return (
            lines,
            lines.head_U2[targets.user_B],
            behaviour_BK,
            mask_BK,
            rest_BS,
            np.full(count, self.max_tokens),
            partial(self._refuse, targets),
            item_BS,
        )

    def _refuse(self, targets: Targets, row: int, needed: int) -> None:
        item = int(targets.item_B[row])
        raise ConfigError(
            f"the question about item '{self.dataset.items.outside(np.array([item]))[0]}' "
            f"({self.dataset.titles[item]!r}) needs {needed} tokens with no behaviour, "
            f"and max_tokens = {self.max_tokens}; raise max_tokens or lower template.description_words."
        )
