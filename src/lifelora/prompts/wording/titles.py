"""The words of a prompt that asks which item comes next. Knows no tokenizer and no data set.

    opening, history | nothing        the head
    behaviour                         one per item, oldest first
    soft_user                         where the prompt has a soft token of the user
    announcement, candidate           one per candidate; both are left out where there is none
    question, answer                  the title comes after the cue, and the end of its line after the title

Soft tokens of items stand in the lines of behaviours and candidates (``slots``).
"""

from collections.abc import Collection, Iterable, Sequence
from typing import Literal

from pydantic import Field, field_validator, model_validator

from lifelora.prompts.slots import ITEM_SLOT, USER_SLOT, Place, one_mark, with_slot
from lifelora.prompts.wording.chat import Chat
from lifelora.prompts.wording.fields import FIELD, Texts, check_fields, fill, whole_lines
from lifelora.prompts.wording.others import OTHERS, Telling, title_of

Form = Literal["text", "hybrid", "ids"]
"""How items stand in a prompt: their titles, each title and a soft token, a soft token alone on its line."""
WORDS_ALONE: tuple[Form, ...] = ("text",)
ITEMS: tuple[Place, ...] = ("behaviours", "target")
"""The target's soft token is that of each candidate, for any may be it."""


class Phrasing(Telling):
    """The lines of one way to ask, in the fields {item}, {items} and {did}; an item's also in columns of the catalogue.

    {soft} in the line of a behaviour or a candidate moves its soft token, which ends the line else.
    """

    opening: tuple[str, ...] = ()
    "Lines before all others: the wrapper of a chat model."
    history: str
    "Announces the behaviours."
    nothing: str
    "Stands in for history where no behaviour is shown."
    behaviour: str = "{title}"
    soft_user: str = "Their taste: {soft}"
    "Stands between behaviours and candidates where the prompt has a soft token of the user, which is {soft} here."
    announcement: str
    "Announces the candidates; where there are none, it is left out with them."
    candidate: str = "{title}[[ ({others})]]"
    question: tuple[str, ...]
    "Asks; it must make sense without candidates, too."
    answer: str = "Answer:"
    "The cue at the very end; the answer brings its own space."
    other_words: int = Field(default=12, ge=1)
    "{others} has at most so many words: few, for there may be twenty candidates. The description has what is left of them."

    @field_validator("opening", "history", "nothing", "behaviour", "soft_user", "announcement", "candidate", "question")
    @classmethod
    def _whole_lines(cls, value: str | tuple[str, ...]) -> str | tuple[str, ...]:
        return whole_lines(value)

    @model_validator(mode="after")
    def _asks(self) -> "Phrasing":
        lines = (self.history, self.nothing, self.behaviour, self.announcement, self.candidate, self.answer)
        if not all((*lines, *self.opening, *self.question)):
            raise ValueError(
                "history, nothing, behaviour, announcement, candidate, answer and opening and question cannot be blank"
            )
        if "{title}" not in self.candidate:
            raise ValueError("candidate must show what the answer is: put {title} into it")
        for name in ("behaviour", "candidate", "soft_user"):
            one_mark(name, (getattr(self, name),))
        if self.answer != self.answer.rstrip(" ") or FIELD.search(self.answer):
            raise ValueError("answer cannot end with a space (the title brings it) and has no fields")
        return self

    def check(self, catalogue: Sequence[str], words: Texts) -> None:
        """Raise ConfigError where a line needs a field that the data set lacks; optional words may lack theirs."""
        check_fields(self, self.allowed(catalogue, words))

    def allowed(self, catalogue: Iterable[str], words: Iterable[str]) -> dict[str, set[str]]:
        """What each part may name about a data set with these columns."""
        plain = ("opening", "history", "nothing", "announcement", "question")
        items = {"title", "soft", OTHERS, *catalogue, *words}
        return {**{part: set(words) for part in plain}, "behaviour": items, "candidate": items, "soft_user": {"soft", *words}}

    def slotted(self, form: Form, soft: Collection[Place] = ITEMS) -> "Phrasing":
        """The phrasing of prompts in this form with these soft tokens: slots in the lines of items, or in place of them."""
        if form == "text":
            return self
        lines = {"behaviours": "behaviour", "target": "candidate"}
        items = {
            name: ITEM_SLOT if form == "ids" else with_slot(getattr(self, name), ITEM_SLOT)
            for place, name in lines.items()
            if place in soft
        }
        return self.model_copy(update={**items, "soft_user": with_slot(self.soft_user, USER_SLOT)})

    def head(self, words: Texts, shown: bool) -> str:
        """All that comes before the behaviours; ``shown`` says whether any follow."""
        return self._around.before + _lines((*self.opening, self.history if shown else self.nothing), words)

    def behaviour_line(self, words: Texts, item: Texts) -> str:
        """One behaviour."""
        return self.about_item(self.behaviour, item, words) + "\n"

    def user_line(self, words: Texts) -> str:
        """The line of the user's soft token."""
        return _lines((self.soft_user,), words)

    def announcement_line(self, words: Texts) -> str:
        """What comes before the candidates."""
        return _lines((self.announcement,), words)

    def candidate_line(self, words: Texts, item: Texts) -> str:
        """One candidate."""
        return self.about_item(self.candidate, item, words) + "\n"

    def question_lines(self, words: Texts) -> str:
        """The question, up to and with the cue."""
        return _lines(self.question, words) + self.answer + self._around.after

    def answer_line(self, words: Texts, item: Texts) -> str:
        """The title after the cue, and the end of its line or message: so no answer is the beginning of another."""
        return self._around.lead + fill("{title}", {"title": title_of(item, words)}) + self._around.end

    def render(
        self,
        words: Texts,
        behaviours: Sequence[Texts],
        candidates: Sequence[Texts] | None,
        target: Texts | None = None,
        *,
        user: bool = False,
    ) -> str:
        """The whole prompt as text, with its answer where there is a target: what the token ids must be equal to.

        ``user`` says whether it has a soft token of the user.
        """
        listed = (
            []
            if candidates is None
            else [self.announcement_line(words), *(self.candidate_line(words, item) for item in candidates)]
        )
        lines = [
            self.head(words, bool(behaviours)),
            *(self.behaviour_line(words, item) for item in behaviours),
            self.user_line(words) if user else "",
            *listed,
            self.question_lines(words),
            "" if target is None else self.answer_line(words, target),
        ]
        return "".join(lines)


def _lines(lines: Sequence[str], texts: Texts) -> str:
    return "".join(f"{fill(line, texts)}\n" for line in lines)


PHRASINGS = (
    Phrasing(
        history="They {did} these {items}, oldest first:",
        nothing="What they {did} is not known.",
        announcement="The {items} to choose from:",
        question=("Name the {item} that came next.",),
    ),
    Phrasing(
        history="Here is what somebody {did}, from the first to the last:",
        nothing="Nothing is known of what somebody {did}.",
        announcement="Exactly one of the following {items} is the next one:",
        question=("Which {item} is next?",),
    ),
    Phrasing(
        history="In this order a person {did}:",
        nothing="No {item} that a person {did} is known.",
        announcement="Choose among these {items}:",
        question=("Give the title of the {item} that follows and nothing else.",),
    ),
)
"""Three ways to ask the same, as LLaRA has them."""


class TitleTemplate(Chat):
    """The ways to ask: training draws one for every row, and whatever is evaluated is asked in the first way."""

    kind: Literal["next-item"] = "next-item"
    phrasings: tuple[Phrasing, ...] = Field(default=PHRASINGS, min_length=1)
