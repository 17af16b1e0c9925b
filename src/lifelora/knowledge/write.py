"""Prompts to texts, by one of several writers: none, the run's language model, or an endpoint. Knows no item and no user.

What is finished is kept at once, in one file for all writers: what was killed goes on with what is missing.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from lifelora.endpoint.caller import Caller, Endpoint, together
from lifelora.finished import Keep, Store, finished
from lifelora.kinds import WRITERS, Variant
from lifelora.knowledge.greedy import Greedy, neutral
from lifelora.vectors.base import Tools

FILE = "written.jsonl"


class Writer(Variant, ABC):
    """Settings of what answers prompts, and what answers them."""

    needs_backbone: ClassVar[bool] = False
    "Whether the run's language model writes."

    @abstractmethod
    def write(self, prompts: Sequence[str], tools: Tools) -> Sequence[str]:
        """A text for every prompt; an empty prompt's is empty. Finished ones are read from ``tools.folder``."""

    def in_words(self) -> str:
        """What is read, for a reader of the report."""
        return f"texts of '{self.kind}'"


class RawPrompt(Writer):
    """Nothing is written: the prompt itself becomes a vector."""

    kind: Literal["prompt"] = "prompt"

    def write(self, prompts: Sequence[str], tools: Tools) -> Sequence[str]:
        """The prompts."""
        return prompts

    def in_words(self) -> str:
        return "questions"


class LM(Writer):
    """The run's language model writes."""

    needs_backbone: ClassVar[bool] = True
    kind: Literal["lm"] = "lm"
    max_new_tokens: int = Field(default=128, ge=1)
    batch_size: int = Field(default=16, ge=1)
    "Prompts continued at one time: memory and speed."

    def in_words(self) -> str:
        return "texts of the language model"

    def write(self, prompts: Sequence[str], tools: Tools) -> list[str]:
        """The model's greedy continuation of every prompt, without special tokens.

        ``tools.fingerprint`` says which model it is, so that a file written by another is not taken for this one's. A prompt
        is put into the tokenizer's chat template where it has one. Whatever the checkpoint wishes for sampling has no say;
        batches change a text only where rounding decides between two tokens, which in float32 hardly happens.

        Raises ConfigError for a prompt that leaves no room for ``max_new_tokens`` in what the model can read:
        ``tools.context`` tokens, or as many as its configuration names.
        """
        model, tokenizer = tools.language_model("text.kind = 'lm'")
        asked = Greedy(model, tokenizer, tools.context)
        store = Store(
            tools.kept(FILE),
            {
                "model": tools.fingerprint,
                "dtype": str(next(model.parameters()).dtype),
                "template": asked.template,
                "max_new_tokens": self.max_new_tokens,
            },
        )

        def make(some: list[str], keep: Keep) -> None:
            ids = [asked.ids(prompt, self.max_new_tokens) for prompt in some]
            # The longest first: if memory does not suffice, that shows at once.
            by_length = sorted(range(len(some)), key=lambda place: -len(ids[place]))
            for start in range(0, len(by_length), self.batch_size):
                places = by_length[start : start + self.batch_size]
                texts = asked.continued([ids[place] for place in places], self.max_new_tokens)
                keep([some[place] for place in places], texts)

        with neutral(model):
            return finished(prompts, store, make, "write", tools.progress)


class EndpointWriter(Endpoint, Writer):
    """A chat model behind an endpoint writes."""

    kind: Literal["endpoint"] = "endpoint"
    max_tokens: int = Field(default=128, ge=1)

    def in_words(self) -> str:
        return "texts of an endpoint"

    def write(self, prompts: Sequence[str], tools: Tools) -> list[str]:
        """The endpoint's answer to every prompt, at temperature 0.

        Raises ConfigError for what the endpoint refuses and EndpointError for what it cannot do now; going on later asks for
        what is missing only.
        """
        maker = {"url": self.url, "model": self.model, "max_tokens": self.max_tokens, "temperature": 0}
        store, caller = Store(tools.kept(FILE), maker), Caller(self)

        def one(prompt: str) -> str:
            answer = caller.post(
                "/chat/completions",
                {
                    "model": self.model,
                    "messages": [{"role": "user", "content": prompt}],
                    "temperature": 0,
                    "max_tokens": self.max_tokens,
                },
            )
            return caller.without_key(caller.understood(answer, _content, "/chat/completions"))

        def make(some: list[str], keep: Keep) -> None:
            together(lambda prompt: keep([prompt], [one(prompt)]), some, self.together)

        return finished(prompts, store, make, "write", tools.progress)


AnyWriter = Annotated[Writer, WRITERS.unless_said("prompt")]


def _content(answer: Any) -> str:
    content = answer["choices"][0]["message"]["content"]
    if not isinstance(content, str | None):
        raise TypeError
    # A lone surrogate could be written to no file and read by no tokenizer.
    return (content or "").strip().encode(errors="replace").decode()
