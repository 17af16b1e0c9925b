"""Prompts as messages of a chat: what a recipe says of it, and what stands around a prompt. Knows words, no tokenizer."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from pydantic import model_validator

from lifelora.types import Frozen


@dataclass(frozen=True)
class Around:
    """What stands around a prompt and its answer; without a chat, the answer comes after a space and ends its line."""

    before: str = ""
    "The system's message, and what opens the user's."
    after: str = ""
    "What ends the user's message, and opens the assistant's."
    lead: str = " "
    "What stands before the answer."
    end: str = "\n"
    "What ends it, where it is a title."

    def marked(self, mark: Callable[[str], str]) -> "Around":
        """With its control tokens as ``mark`` gives them (``LineTokenizer.marked``)."""
        return Around(mark(self.before), mark(self.after), mark(self.lead), mark(self.end))


PLAIN = Around()


class Chat(Frozen):
    """Whether a prompt is the user's message in a chat."""

    later: ClassVar[frozenset[str]] = frozenset({"chat", "system"})

    chat: bool = False
    "Whether the prompt is put into the tokenizer's own chat template, as a chat model was tuned; the answer is the assistant's."
    system: str | None = None
    "The system's message there; the chat template's own, if it has one, when left out."

    @model_validator(mode="after")
    def _system_of_a_chat(self) -> "Chat":
        if self.system is not None and not self.chat:
            raise ValueError(
                "system is the first message of a chat, and chat = false; set chat = true, or put the words into opening"
            )
        if self.system is not None and (self.system != self.system.strip() or not self.system):
            raise ValueError(f"system = {self.system!r} must be words without space at their ends")
        return self
