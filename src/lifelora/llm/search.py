"""The title that the LM answers with, held to the candidates, and search by beams. Knows tokens, no data set.

What a search held to the candidates asks of the LM is the log-probability of each title's next token after those before it. These
``likelihoods`` reads all at once, so the search itself asks nothing more.
"""

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lifelora.errors import ConfigError
from lifelora.llm.cost import Cost
from lifelora.llm.likelihoods import Likelihoods, likelihoods
from lifelora.llm.personal import PersonalBatch
from lifelora.llm.titles import TitleLM
from lifelora.llm.trunk import MEMORY
from lifelora.prompts.titles import Titles


@dataclass(frozen=True)
class Named:
    """Which candidates an answer names: several where they are called the same, none where it is no candidate."""

    named_BC: Bool[Tensor, "B C"]
    cost: Cost


def choose(
    lm: TitleLM, batch: PersonalBatch, titles: Titles, *, beams: int = 1, length_normalised: bool = False, memory: int = MEMORY
) -> Named:
    """``chosen``, of titles whose log-likelihoods are read for it; ``memory`` is as in ``likelihoods``."""
    check(beams)
    return chosen(likelihoods(lm, batch, titles, memory=memory), titles, beams=beams, length_normalised=length_normalised)


@torch.no_grad()
def chosen(found: Likelihoods, titles: Titles, *, beams: int = 1, length_normalised: bool = False) -> Named:
    """The title that the LM writes where it may write nothing but titles: greedily, or the best that ``beams`` beams find.

    At every token only those are allowed that continue some title, so an answer is a candidate; of equal titles, all of them
    are named. As many beams as there are titles find the most likely one.
    """
    check(beams)
    among = _Among(titles, found.logp_BCA, beams)
    search(among, len(titles.mask_BCA), beams, length_normalised, titles.mask_BCA.device)
    return Named(among.found_BC, found.cost)


@runtime_checkable
class Rules(Protocol):
    """What is written, as ``search`` goes through it."""

    limit: int
    "Tokens of the longest text."

    def options(self, place: int) -> Float[Tensor, "B K O"]:
        """Log-probabilities of what each of K beams may be followed by; -inf of what may not be."""

    def step(self, place: int, parent_BK: Int[Tensor, "B K"], option_BK: Int[Tensor, "B K"]) -> Bool[Tensor, "B K"]:
        """Go on with these beams, each by an option; which ended by it."""

    def keep(self, better_B: Bool[Tensor, "B"], beam_B: Int[Tensor, "B"]) -> None:
        """A beam of each row, whose text is the best so far in some."""

    def read(self, parent_BK: Int[Tensor, "B K"], growing_BK: Bool[Tensor, "B K"]) -> None:
        """Find out what may follow the beams that grow on."""


def search(rules: Rules, rows: int, beams: int, length_normalised: bool, device: torch.device) -> None:
    """Beam search; with one beam it is greedy. A row's answer is its own alone."""
    total_BK = torch.full((rows, beams), -math.inf, device=device)  # of beams that are still being written
    total_BK[:, 0] = 0.0  # they begin as one
    best_B = torch.full((rows,), -math.inf, device=device)
    for place in range(rules.limit):
        score_BKO = total_BK[..., None] + rules.options(place)
        options = score_BKO.shape[2]
        total_BK, which_BK = score_BKO.flatten(1).topk(beams, dim=1)
        parent_BK, option_BK = which_BK // options, which_BK % options
        ended_BK = rules.step(place, parent_BK, option_BK)
        final_BK = (total_BK / (place + 1) if length_normalised else total_BK).masked_fill(~ended_BK, -math.inf)
        value_B, beam_B = final_BK.max(dim=1)
        rules.keep(value_B > best_B, beam_B)
        best_B = torch.maximum(best_B, value_B)
        total_BK = total_BK.masked_fill(ended_BK, -math.inf)
        if not length_normalised:  # a log-likelihood only falls, so what is behind already stays behind
            total_BK = total_BK.masked_fill(total_BK <= best_B[:, None], -math.inf)
        if place + 1 == rules.limit or not total_BK.isfinite().any():
            break
        rules.read(parent_BK, total_BK.isfinite())


def check(beams: int) -> None:
    """Raises ConfigError where there are none."""
    if beams < 1:
        raise ConfigError(f"beams = {beams}; at least one is needed.")


class _Among:
    """Allows what continues a title; the titles that a beam can still become stand for a place in the trie of all."""

    def __init__(self, titles: Titles, logp_BCA: Float[Tensor, "B C A"], beams: int) -> None:
        self.tokens_BCA, self.logp_BCA, self.beams = titles.tokens_BCA, logp_BCA, beams
        B, C, self.limit = titles.tokens_BCA.shape
        self.length_BC = titles.mask_BCA.sum(dim=-1)
        self.alive_BKC = torch.ones(B, beams, C, dtype=torch.bool, device=logp_BCA.device)
        self.alike_BCC = torch.ones(B, C, C, dtype=torch.bool, device=logp_BCA.device)
        "Which titles are the same up to the place that was asked about last."
        self.found_BC = torch.zeros(B, C, dtype=torch.bool, device=logp_BCA.device)

    def options(self, place: int) -> Float[Tensor, "B K C"]:
        """Titles stand for their tokens: the first of those that go on alike for all of them."""
        token_BC = self.tokens_BCA[..., place]
        self.alike_BCC &= token_BC[:, :, None] == token_BC[:, None]
        first_BC = ~self.alike_BCC.tril(-1).any(dim=-1)
        return self.logp_BCA[:, None, :, place].masked_fill(~(self.alive_BKC & first_BC[:, None]), -math.inf)

    def step(self, place: int, parent_BK: Int[Tensor, "B K"], option_BK: Int[Tensor, "B K"]) -> Bool[Tensor, "B K"]:
        """Which beams ended with their new token."""
        C = self.alive_BKC.shape[2]
        self.alive_BKC = self.alive_BKC.gather(1, parent_BK[..., None].expand(-1, -1, C))
        self.alive_BKC &= self.alike_BCC.gather(1, option_BK[..., None].expand(-1, -1, C))
        ended_BK = (self.alive_BKC & (self.length_BC == place + 1)[:, None]).any(dim=-1)
        if self.beams == 1:  # with one title left the rest is settled, and there is no other beam to compare it with
            ended_BK |= self.alive_BKC.sum(dim=-1) == 1
        return ended_BK

    def keep(self, better_B: Bool[Tensor, "B"], beam_B: Int[Tensor, "B"]) -> None:
        rows = better_B.nonzero()[:, 0]
        self.found_BC[rows] = self.alive_BKC[rows, beam_B[rows]]

    def read(self, parent_BK: Int[Tensor, "B K"], growing_BK: Bool[Tensor, "B K"]) -> None:
        """All is read."""
