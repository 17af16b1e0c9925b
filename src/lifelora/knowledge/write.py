"""Prompts to texts: a causal LM continues them greedily, and every finished text is kept at once. Knows no item and no user.

The file of finished texts has one JSON object a line, found by the SHA-256 of what made the text and of its prompt. So
what was killed goes on with what is missing, a prompt that comes twice is written once, and different writers can share
the file.
"""

import hashlib
import json
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, cast, final

import torch
from jaxtyping import Int
from pydantic import Field
from torch import Tensor, nn

from lifelora.artefacts import canonical
from lifelora.errors import ArtefactError, ConfigError
from lifelora.progress import Progress
from lifelora.tokens import LineTokenizer, check_fits
from lifelora.types import Frozen

FILE = "written.jsonl"
BLOCK = 2048
"Prompts that are held and sorted by length at one time."
ANSWER, PROMPT = "ANSWER", "PROMPT-3f0c"
"""Stand in a chat template for what is not the template's own text."""
TEMPLATE = {"enable_thinking": False, "date_string": "26 Jul 2024"}
"""For chat templates that know them: a short text has no room for thinking aloud, and today's date would change the prompt."""


class RawPrompt(Frozen):
    """Nothing is written: the prompt itself becomes a vector."""

    kind: Literal["prompt"] = "prompt"


class LM(Frozen):
    """The run's language model writes."""

    kind: Literal["lm"] = "lm"
    max_new_tokens: int = Field(default=128, ge=1)
    batch_size: int = Field(default=16, ge=1)
    "Prompts continued at one time: memory and speed."


Keep = Callable[[Sequence[str], Sequence[str]], None]
"""Takes prompts and their texts, to be kept for good; any thread may call it."""


@final
class Store:
    """Finished texts of one maker in a file of JSON lines; a last line that was torn by a kill is dropped."""

    def __init__(self, path: Path, maker: Mapping[str, Any]) -> None:
        self.path, self._maker = path, canonical(dict(maker))
        self._lock = threading.Lock()
        self._texts = self._read()

    def key(self, prompt: str) -> str:
        """SHA-256 of maker and prompt."""
        return hashlib.sha256(canonical({"maker": self._maker, "prompt": prompt}).encode()).hexdigest()

    def __contains__(self, key: str) -> bool:
        return key in self._texts

    def __getitem__(self, key: str) -> str:
        return self._texts[key]

    def add(self, texts: Mapping[str, str]) -> None:
        """Texts by key, on disk when this returns."""
        lines = "".join(json.dumps({"key": key, "text": text}) + "\n" for key, text in texts.items())
        with self._lock:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab") as stream:
                stream.write(lines.encode())
                stream.flush()
                os.fsync(stream.fileno())
            self._texts.update(texts)

    def _read(self) -> dict[str, str]:
        if not self.path.exists():
            return {}
        texts: dict[str, str] = {}
        with self.path.open("rb") as stream:
            whole = 0
            for number, line in enumerate(stream, 1):
                if not line.endswith(b"\n"):
                    break
                try:
                    row = json.loads(line)
                    texts[str(row["key"])] = str(row["text"])
                except (ValueError, KeyError, TypeError, RecursionError) as error:
                    raise ArtefactError(f"{self.path}:{number} is damaged ({error}); delete this line: what it held is written "
                                        "again, and nothing else.") from error
                whole += len(line)
        if whole < self.path.stat().st_size:
            os.truncate(self.path, whole)
        return texts


def finished(
    prompts: Sequence[str], store: Store, make: Callable[[list[str], Keep], None], name: str, progress: bool = True
) -> list[str]:
    """The text of every prompt: what the store has, and what ``make`` makes of the rest; an empty prompt's is empty.

    ``make`` gets a block of different prompts and must keep a text for each.
    """
    keys = [store.key(prompt) if prompt.strip() else "" for prompt in prompts]
    places = {key: place for place, key in reversed(list(enumerate(keys))) if key}
    missing = sorted(place for key, place in places.items() if key not in store)
    lock = threading.Lock()
    with Progress(name, len(places), unit="texts", done=len(places) - len(missing), enabled=progress) as bar:

        def keep(made: Sequence[str], texts: Sequence[str]) -> None:
            store.add({store.key(prompt): text for prompt, text in zip(made, texts, strict=True)})
            with lock:
                bar.advance(len(made))

        for start in range(0, len(missing), BLOCK):
            make([prompts[place] for place in missing[start : start + BLOCK]], keep)
    return [store[key] if key else "" for key in keys]


def write(
    prompts: Sequence[str], model: nn.Module, tokenizer: Any, folder: Path, *, fingerprint: str, config: LM | None = None,
    context: int | None = None, progress: bool = True,
) -> list[str]:
    """The model's greedy continuation of every prompt, without special tokens; finished ones are read from ``folder``.

    ``fingerprint`` says which model it is, so that a file written by another is not taken for this one's. A prompt is put
    into the tokenizer's chat template where it has one. Whatever the checkpoint wishes for sampling has no say; batches
    change a text only where rounding decides between two tokens, which in float32 hardly happens.

    Raises ConfigError for a prompt that leaves no room for ``max_new_tokens`` in what the model can read: ``context`` tokens, or
    as many as its configuration names.
    """
    config = config or LM()
    asked = _Asked(model, tokenizer, context)
    store = Store(folder / FILE, {
        "model": fingerprint, "dtype": str(next(model.parameters()).dtype), "template": asked.template,
        "max_new_tokens": config.max_new_tokens,
    })

    def make(some: list[str], keep: Keep) -> None:
        ids = [asked.ids(prompt, config.max_new_tokens) for prompt in some]
        # The longest first: if memory does not suffice, that shows at once.
        by_length = sorted(range(len(some)), key=lambda place: -len(ids[place]))
        for start in range(0, len(by_length), config.batch_size):
            places = by_length[start : start + config.batch_size]
            texts = asked.continued([ids[place] for place in places], config.max_new_tokens)
            keep([some[place] for place in places], texts)

    with _neutral(model):
        return finished(prompts, store, make, "write", progress)


@final
class _Asked:
    """A model and its tokenizer: prompts in, continuations out."""

    def __init__(self, model: nn.Module, tokenizer: Any, context: int | None = None) -> None:
        self._model, self._tokenizer = cast(Any, model), tokenizer
        self._line_tokenizer = LineTokenizer(tokenizer)
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
        ids = self._line_tokenizer.ids(self._in_chat(prompt)) if self.template else self._line_tokenizer.whole(prompt)
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
            input_ids=tokens_BL.to(device), attention_mask=mask_BL.to(device), generation_config=GenerationConfig(
                do_sample=False, num_beams=1, use_cache=True, max_new_tokens=new, pad_token_id=self._padding,
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
            after = self._chat({"role": "user", "content": "A"}, {"role": "assistant", "content": ANSWER}).rpartition(ANSWER)[2]
            first = self._line_tokenizer.ids(self._line_tokenizer.marked(after.strip()))[:1]
            ends |= {token for token in first if token in special}
        return sorted(ends)

    def _in_chat(self, prompt: str) -> str:
        """The chat up to the answer; marked is what the template alone says, so that no prompt ends a turn or opens another."""
        text = prompt.strip()
        # With the prompt's own space around it, which the template may take away.
        chat = self._chat({"role": "user", "content": prompt.replace(text, PROMPT)}, add_generation_prompt=True)
        around = chat.split(PROMPT)
        if len(around) == 1:
            raise ConfigError("the tokenizer's chat template leaves out what the user says, so no prompt can be put into it; "
                              "repair chat_template (tokenizer_config.json, chat_template.jinja) or take another backbone.")
        return text.join(map(self._line_tokenizer.marked, around))

    def _chat(self, *turns: dict[str, str], add_generation_prompt: bool = False) -> str:
        text: str = self._tokenizer.apply_chat_template(
            list(turns), tokenize=False, add_generation_prompt=add_generation_prompt, **TEMPLATE)
        return text


@contextmanager
def _neutral(model: nn.Module) -> Iterator[None]:
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
