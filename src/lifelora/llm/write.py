"""The title that the LM answers with where it may write anything, greedily or by beams. Knows tokens, no data set.

What the model keeps of a prompt is copied for each of its beams, so what is written together is bounded by tokens: rows times
beams times the tokens of a prompt and an answer.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lifelora.errors import ConfigError
from lifelora.llm.context import named_context
from lifelora.llm.continuation import Continuation
from lifelora.llm.cost import Cost, clocked
from lifelora.llm.head import full_precision
from lifelora.llm.personal import PersonalBatch
from lifelora.llm.reading import Reader
from lifelora.llm.search import check, search
from lifelora.llm.titles import TitleLM
from lifelora.lora.structure import Structure
from lifelora.prompts.fill import Prompts

MAX_TOKENS = 1 << 15
"""How many are computed together by default: more is not faster on a CPU."""


@dataclass(frozen=True)
class Written:
    """What the LM wrote, up to the end of the line."""

    lines: list[str]
    cost: Cost


@torch.no_grad()
def write(
    lm: TitleLM,
    batch: PersonalBatch,
    reader: Reader,
    *,
    beams: int = 1,
    length_normalised: bool = False,
    limit: int = 64,
    max_tokens: int = MAX_TOKENS,
) -> Written:
    """What the LM writes where it may write anything, up to the end of the line or of ``limit`` tokens.

    The prompts are read together. After that no more is written together than ``max_tokens`` has room for, but one row always is.
    """
    check(beams)
    prompts = batch.prompts
    assert isinstance(prompts, Prompts)
    if prompts.answer_BA is not None:
        raise ConfigError("these prompts already have their answers: ask with TitleBuilder.question.")
    context = named_context(getattr(lm.model, "config", None))
    longest = int(prompts.mask_BL.sum(dim=1).max()) if len(prompts.mask_BL) else 0
    if context is not None and longest + limit > context + 1:  # the last token that is written is not read
        raise ConfigError(
            f"a prompt of {longest} tokens and an answer of up to {limit} do not fit into the {context} tokens of "
            "the backbone's context; lower limit or max_tokens."
        )
    (B, L), device, lines = prompts.tokens_BL.shape, prompts.tokens_BL.device, list[str]()
    with clocked(device) as cost:
        C = lm.couplings(batch)
        with lm.adapters.holding(lm.placed(batch, C)), full_precision(lm.model, when=lm.head):
            output = lm.run(batch, use_cache=True, logits_to_keep=1)
        cost.tokens += B * L
        prompt = Continuation.of(lm.model, output, prompts.mask_BL, lm.head)
        logp_BKV = output.logits[:, -1].float().log_softmax(dim=-1)[:, None].expand(-1, beams, -1)
        count = max(1, max_tokens // (beams * (L + limit)))
        for first in range(0, B, count):
            rows_N = torch.arange(first, min(first + count, B), device=device)
            beams_N = rows_N.repeat_interleave(beams)
            some_C = None if C is None else C.at(beams_N)
            found = _Anything(lm, prompt.taken(beams_N), some_C, logp_BKV[rows_N], reader, limit, cost)
            search(found, len(rows_N), beams, length_normalised, device)
            lines += [reader.line(ids) for ids in found.found]
    return Written(lines, cost)


class _Anything:
    """Allows all tokens, and reads on with those that were taken."""

    def __init__(
        self,
        lm: TitleLM,
        texts: Continuation,
        C: Structure | None,
        logp_BKV: Float[Tensor, "B K V"],
        reader: Reader,
        limit: int,
        cost: Cost,
    ) -> None:
        self.lm, self.texts, self.C, self.limit, self.cost = lm, texts, C, limit, cost
        self.logp_BKV = logp_BKV
        self.ends_N = torch.tensor(reader.ends, dtype=torch.int64, device=logp_BKV.device)
        self.written_BKA: Tensor | None = None
        self.found: list[list[int]] = [[] for _ in range(len(logp_BKV))]

    def options(self, place: int) -> Float[Tensor, "B K V"]:
        return self.logp_BKV

    def step(self, place: int, parent_BK: Int[Tensor, "B K"], option_BK: Int[Tensor, "B K"]) -> Bool[Tensor, "B K"]:
        """Which beams ended with their new token."""
        if self.written_BKA is None:
            self.written_BKA = option_BK[..., None]
        else:
            before_BKA = self.written_BKA.gather(1, parent_BK[..., None].expand_as(self.written_BKA))
            self.written_BKA = torch.cat([before_BKA, option_BK[..., None]], dim=-1)
        return torch.isin(option_BK, self.ends_N) | (place + 1 == self.limit)

    def keep(self, better_B: Bool[Tensor, "B"], beam_B: Int[Tensor, "B"]) -> None:
        assert self.written_BKA is not None
        for row in better_B.nonzero()[:, 0].tolist():
            self.found[row] = self.written_BKA[row, beam_B[row]].tolist()

    def read(self, parent_BK: Int[Tensor, "B K"], growing_BK: Bool[Tensor, "B K"]) -> None:
        assert self.written_BKA is not None
        B, K = parent_BK.shape
        row_BK = torch.arange(B, device=parent_BK.device)[:, None]
        self.texts.reordered((row_BK * K + parent_BK).flatten())
        self.cost.tokens += B * K
        with self.lm.adapters.holding(self.C):
            # A beam that has ended grows no longer: its tokens are as padding, and take no position.
            logits_NAV = self.texts.after(self.written_BKA[..., -1].reshape(-1, 1), growing_BK.reshape(-1, 1))
        self.logp_BKV = logits_NAV[:, -1].log_softmax(dim=-1).view(B, K, -1)
