"""What a causal LM is found to be when it is loaded: tried with a few short texts, and not looked up in a list of families.

Asked here in the way in which prompts are asked: padded at the left, with a mask and positions that count real tokens only. A
model that answers otherwise than alone, or whose earlier tokens see later ones, is refused; a head that cannot be read word by
word, a prompt that titles cannot share, or a tree that cannot be read, is noted.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from lifelora.errors import ConfigError, LifeloraError
from lifelora.llm.agreement import FAILS, Agreement, first_line
from lifelora.llm.continuation import Continuation
from lifelora.llm.head import full_precision
from lifelora.llm.trees.ready import tried

LENGTHS = (12, 9, 5, 3)


@dataclass(frozen=True)
class Found:
    """What holds of a model that was not refused."""

    head: bool
    "Whether single words of the head can be computed alone and in full precision (``llm.head``)."
    titles: str
    "Why titles cannot share a prompt that is read once; empty where they can."
    trees: str
    "Why prompts cannot be trees; empty where they can."
    early: bool
    "Whether in the last layer those tokens of a tree alone may ask after which something is read."


def ordinary(model: nn.Module, tokenizer: Any, count: int) -> Int[Tensor, "count"]:
    """Tokens from all over the vocabulary that are no control tokens (nor stand for a picture), on the model's device."""
    lm: Any = model
    table = lm.get_input_embeddings()
    special = {*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder}
    known = min(len(tokenizer), int(getattr(table, "num_embeddings", 0) or len(table.weight)))
    words = [token for token in range(known) if token not in special] or list(range(known))
    return torch.tensor([words[place * 7919 % len(words)] for place in range(count)], device=next(model.parameters()).device)


@torch.no_grad()
def probe(model: nn.Module, tokenizer: Any, key: str, limit: int | None = None) -> Found:
    """Try a loaded model in evaluation; ``key`` is where the recipe names it, ``limit`` the longest prompt where it gives one.

    Raises ConfigError for a model whose answer depends on what its prompt is padded with or to, that sees what comes later, or
    that cannot be asked in this way.
    """
    texts = _Texts.of(model, tokenizer)
    apart = Agreement.of(model).apart

    def refuse(why: str) -> None:
        raise ConfigError(f"{key}: {type(model).__name__} {why} Take another model.")

    try:
        alone = [texts.alone(model, row) for row in range(len(LENGTHS))]
        together_NV, other_NV = texts.last(model, 0), texts.last(model, 1)
        changed = texts.alone(model, 0, changed=True)
    except LifeloraError:
        raise
    except torch.OutOfMemoryError:
        raise
    except FAILS as error:
        reason = first_line(error)
        raise ConfigError(f"{key}: {type(model).__name__} cannot be called with a mask and positions: {reason}") from error
    alone_NV = torch.stack([logits_LV[-1] for logits_LV in alone])
    if not alone_NV.isfinite().all():
        refuse("gives answers that are no numbers (NaN or infinite); its weights are damaged, or too large for the dtype.")
    if apart(together_NV, other_NV):
        refuse("reads the padding of a prompt though the mask leaves it out, so an answer would depend on what stands beside it.")
    if apart(alone_NV[1:], together_NV[1:]):
        refuse("answers a padded prompt otherwise than the prompt alone, though mask and positions are given.")
    if apart(alone[0][: texts.kept], changed[: texts.kept]):
        refuse("is not causal: earlier tokens see later ones.")
    head = _reads_rows(model, texts, together_NV, apart)
    return Found(head, _shares(model, texts, head, apart), *tried(model, texts.tokens_BL.flatten(), limit))


def _reads_rows(model: nn.Module, texts: "_Texts", whole_NV: Tensor, apart: Callable[[Tensor, Tensor], bool]) -> bool:
    rows = texts.tokens_BL[0, :8].tolist()
    try:
        with full_precision(model, rows):
            few = texts.ask(model, 0).logits[:, -1]
        with full_precision(model):
            every = texts.ask(model, 0).logits[:, -1]
    except FAILS:  # the model does more to its logits than can be done to a few of them
        return False
    shapes = few.shape[-1] == len(rows) and every.shape == whole_NV.shape
    return (
        shapes
        and few.dtype in (torch.float32, torch.float64)
        and few.dtype == every.dtype
        and not apart(few.float(), whole_NV[:, rows])
        and not apart(every.float(), whole_NV)
    )


def _shares(model: nn.Module, texts: "_Texts", head: bool, apart: Callable[[Tensor, Tensor], bool]) -> str:
    """Each prompt's last tokens as two titles, which share what came before, against the whole prompts."""
    tail = 3
    try:
        shared = Continuation.of(model, texts.ask(model, 0, use_cache=True), texts.mask_BL, head).repeated(2)
        tokens_BA = texts.tokens_BL[:, -tail:]
        mask_BA = torch.ones_like(tokens_BA, dtype=torch.bool)
        titles_NA = torch.stack([tokens_BA, tokens_BA.flip(1)], dim=1).flatten(0, 1)
        logits_NV = shared.after(titles_NA[:, :2], mask_BA.repeat_interleave(2, dim=0)[:, :2])[:, -1]
        back_N = torch.arange(len(titles_NA), device=titles_NA.device).flip(0)
        shared.reordered(back_N)
        then_NV = shared.after(titles_NA[back_N, 2:], mask_BA.repeat_interleave(2, dim=0)[:, 2:])[:, -1]
    except ConfigError as error:
        return str(error)
    except FAILS as error:
        return f"what {type(model).__name__} keeps of a prompt cannot be shared by its titles: {first_line(error)}"
    prompts = [row[mask].tolist() for row, mask in zip(texts.tokens_BL, texts.mask_BL, strict=True) for _ in range(2)]
    for length, read_NV in ((2, logits_NV), (tail, then_NV[back_N])):
        whole_NV = torch.stack(
            [_plain(model, prompt + title[:length].tolist())[-1] for prompt, title in zip(prompts, titles_NA, strict=True)]
        )
        if not apart(whole_NV, read_NV):
            continue
        return f"what {type(model).__name__} keeps of a prompt does not give the titles that are read after it their likelihoods."
    return ""


def _plain(model: nn.Module, ids: Sequence[int]) -> Float[Tensor, "L V"]:
    """By the family's own forward over one text, at all places: it is told of no mask and no positions."""
    tokens_1L = torch.tensor([list(ids)], device=next(model.parameters()).device)
    logits_LV: Tensor = model(input_ids=tokens_1L, use_cache=False).logits[0].float()
    return logits_LV


@dataclass(frozen=True)
class _Texts:
    """Some texts of ordinary words, padded at the left with other words that the mask leaves out."""

    tokens_BL: Int[Tensor, "B L"]
    mask_BL: Bool[Tensor, "B L"]
    paddings_PBL: Int[Tensor, "P B L"]
    kept: int = 8
    "So many tokens of the first text stay where its end is changed."

    @classmethod
    def of(cls, model: nn.Module, tokenizer: Any) -> "_Texts":
        """Made of ordinary words."""
        longest = LENGTHS[0]
        chosen = ordinary(model, tokenizer, 3 * len(LENGTHS) * longest)
        tokens_BL, *paddings = chosen.view(3, len(LENGTHS), longest)
        mask_BL = torch.arange(longest, device=chosen.device) >= longest - torch.tensor(LENGTHS, device=chosen.device)[:, None]
        return cls(tokens_BL, mask_BL, torch.stack(paddings))

    def alone(self, model: nn.Module, row: int, *, changed: bool = False) -> Float[Tensor, "L V"]:
        """One text without padding; ``changed`` gives it another end."""
        ids = self.tokens_BL[row, self.mask_BL[row]].tolist()
        return _plain(model, ids[: self.kept] + self.paddings_PBL[0, row, self.kept :].tolist() if changed else ids)

    def ask(self, model: nn.Module, padding: int, *, use_cache: bool = False) -> Any:
        """All texts, as prompts are asked."""
        tokens_BL = torch.where(self.mask_BL, self.tokens_BL, self.paddings_PBL[padding])
        position_BL = (self.mask_BL.long().cumsum(dim=1) - 1).clamp(min=0)
        return model(
            input_ids=tokens_BL,
            attention_mask=self.mask_BL.long(),
            position_ids=position_BL,
            use_cache=use_cache,
            logits_to_keep=1,
        )

    def last(self, model: nn.Module, padding: int) -> Float[Tensor, "B V"]:
        """What is said after each."""
        logits_BV: Tensor = self.ask(model, padding).logits[:, -1].float()
        return logits_BV
