"""A causal LM answers prompts greedily, in its chat template where it has one. Knows no item, no user and no file."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast, final

import torch
from jaxtyping import Int
from torch import Tensor, nn

from lifelora.errors import ConfigError
from lifelora.prompts.chat import rendered
from lifelora.tokens import LineTokenizer, check_fits

ANSWER, PROMPT = "ANSWER", "PROMPT-3f0c"
"""Stand in a chat template for what is not the template's own text."""


@final
class Greedy:
    """A model and its tokenizer: prompts in, continuations out."""

    def __init__(self, model: nn.Module, tokenizer: Any, context: int | None = None) -> None:
        self._model, self._tokenizer = cast(Any, model), tokenizer
        self._encoder = LineTokenizer(tokenizer)
        self.template: str | None = getattr(tokenizer, "chat_template", None)
        self._ends = self._end_tokens()
        # Some tokenizers were given a token for padding that the model does not know.
        paddings = (tokenizer.pad_token_id, *self._ends)
        rows = len(self._model.get_input_embeddings().weight)
        self._padding = next((token for token in paddings if token is not None and token < rows), 0)
        self._context = context or int(getattr(self._model.config, "max_position_embeddings", None) or 1 << 30)

    def ids(self, prompt: str, new: int) -> list[int]:
        """Token ids of a prompt, with its chat template or with what the tokenizer puts in front; none of its own is a control.

        Raises ConfigError where there is no room, and for a chat template that says nothing of the prompt.
        """
        # The template brings its own special tokens.
        ids = self._encoder.ids(self._in_chat(prompt)) if self.template else self._encoder.whole(prompt)
        check_fits(max(ids, default=-1), self._model, self._tokenizer)
        if len(ids) + new > self._context:
            raise ConfigError(
                f"a prompt has {len(ids):,} tokens and max_new_tokens = {new:,}, but the model reads {self._context:,} in all; "
                f"show fewer behaviours, write less, or take a model with a longer context. The prompt begins: {prompt[:80]!r}"
            )
        return ids

    @torch.inference_mode()
    def continued(self, ids: list[list[int]], new: int) -> list[str]:
        """Greedy continuations of a batch, padded at the left."""
        # transformers takes long to import, and much of lifelora works without it.
        from transformers import GenerationConfig

        length = max(map(len, ids))
        tokens_BL = torch.tensor([[self._padding] * (length - len(row)) + row for row in ids])
        mask_BL = torch.tensor([[0] * (length - len(row)) + [1] * len(row) for row in ids])
        device = next(self._model.parameters()).device
        made_BL: Int[Tensor, "B _"] = self._model.generate(
            input_ids=tokens_BL.to(device),
            attention_mask=mask_BL.to(device),
            generation_config=GenerationConfig(
                do_sample=False,
                num_beams=1,
                use_cache=True,
                max_new_tokens=new,
                pad_token_id=self._padding,
                eos_token_id=self._ends or None,
            ),
        )
        return [self._text(row) for row in made_BL[:, length:].tolist()]

    def _text(self, ids: list[int]) -> str:
        end = next((place for place, token in enumerate(ids) if token in self._ends), len(ids))
        text: str = self._tokenizer.decode(ids[:end], skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text.strip()

    def _end_tokens(self) -> list[int]:
        """Tokens that end a text, by the tokenizer, the model's configuration, or the end of an answer in a chat."""
        given, special = getattr(self._model.config, "eos_token_id", None), self._tokenizer.added_tokens_decoder
        # A configuration made from defaults may name a token that is an ordinary one in this vocabulary.
        configured: list[int] = given if isinstance(given, list) else [] if given is None else [given]
        ends = {token for token in configured if token in special}
        if self._tokenizer.eos_token_id is not None:
            ends.add(self._tokenizer.eos_token_id)
        if self.template:
            after = rendered(
                self._tokenizer, {"role": "user", "content": "A"}, {"role": "assistant", "content": ANSWER}
            ).rpartition(ANSWER)[2]
            first = self._encoder.ids(self._encoder.marked(after.strip()))[:1]
            ends |= {token for token in first if token in special}
        return sorted(ends)

    def _in_chat(self, prompt: str) -> str:
        """The chat up to the answer; marked is what the template alone says, so that no prompt ends a turn or opens another."""
        text = prompt.strip()
        # With the prompt's own space around it, which the template may take away.
        chat = rendered(self._tokenizer, {"role": "user", "content": prompt.replace(text, PROMPT)}, answer=True)
        around = chat.split(PROMPT)
        if len(around) == 1:
            raise ConfigError(
                "the tokenizer's chat template leaves out what the user says, so no prompt can be put into it; "
                "repair chat_template (tokenizer_config.json, chat_template.jinja) or take another backbone."
            )
        return text.join(map(self._encoder.marked, around))


@contextmanager
def neutral(model: nn.Module) -> Iterator[None]:
    """The model in evaluation, with nothing of what its checkpoint wishes for sampling, which ``generate`` would mix in."""
    from transformers import GenerationConfig

    lm, training = cast(Any, model), model.training
    wished = lm.generation_config
    lm.generation_config = GenerationConfig()
    model.eval()
    try:
        yield
    finally:
        lm.generation_config = wished
        model.train(training)
