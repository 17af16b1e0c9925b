"""The words around the data: how a user, behaviours and a target become text. Knows no tokenizer and no data set.

A prompt is made of whole lines, so that each can be tokenised apart:

    opening, profile, history | nothing     the head: one per user
    behaviour                               one per (item, rating)
    soft_user                               where the prompt has a soft token of the user
    question, answer                        one per target; the answer word follows

``{name}`` stands for a column or a domain word, ``{others}`` for all that its line does not name (``others``), and ``[[ … ]]``
for words that are left out where a field in them is missing. Texts are squeezed into one line: whatever a title holds, it cannot
begin a new line of the prompt. ``{soft}`` is where a soft token stands (``slots``).
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from lifelora.prompts.slots import ITEM_SLOT, MARK, USER_SLOT, Place, one_mark, with_slot
from lifelora.prompts.wording.chat import Chat
from lifelora.prompts.wording.fields import FIELD, Texts, check_fields, fill, level_texts, whole_lines
from lifelora.prompts.wording.others import OTHERS, USER_COLUMNS, Telling


class Template(Chat, Telling):
    """The lines of a prompt. ``Plain`` and ``Rella`` give the words; every line of either can be replaced."""

    opening: tuple[str, ...]
    "Lines before all others: the wrapper of a chat model."
    profile: str
    "The user, in columns of the profiles; the line is left out where it would be empty."
    history: str
    "Announces the behaviours."
    nothing: str
    "Stands in for history where no behaviour is shown."
    behaviour: str
    """One behaviour: columns of the catalogue, and {level}: ``4 stars``, ``purchase``, nothing in a log without ratings. {rating}
    and {units} are the number and the star or stars of ratings; {soft} moves its soft token."""
    soft_user: str = "Their taste: {soft}"
    "Stands between behaviours and question where the prompt has a soft token of the user, which is {soft} here."
    question: tuple[str, ...]
    """Asks about the target, in columns of the catalogue; {soft} moves its soft token, which stands in the first line with
    {title} else."""
    answer: str
    "The cue at the very end; the answer word brings its own space."
    yes: str = " Yes"
    no: str = " No"
    in_chat: ClassVar[Mapping[str, Any]] = {"answer": "Answer yes or no."}
    "What lines that are not given are where ``chat`` is said: a message says how to answer, and has no cue."

    @model_validator(mode="before")
    @classmethod
    def _said_in_chat(cls, values: Any) -> Any:
        return {**cls.in_chat, **values} if isinstance(values, dict) and values.get("chat") is True else values

    @field_validator("opening", "question", "profile", "history", "nothing", "behaviour", "soft_user")
    @classmethod
    def _whole_lines(cls, value: str | tuple[str, ...]) -> str | tuple[str, ...]:
        return whole_lines(value)

    @model_validator(mode="after")
    def _asks(self) -> "Template":
        if not all((self.history, self.nothing, self.behaviour, self.answer, *self.opening, *self.question)):
            raise ValueError("history, nothing, behaviour, answer and opening and question cannot be blank")
        if not any("{title}" in line for line in self.question):
            raise ValueError("question must name its target: put {title} into one of its lines")
        for what, lines in (("behaviour", (self.behaviour,)), ("question", self.question), ("soft_user", (self.soft_user,))):
            one_mark(what, lines)
        if self.answer != self.answer.rstrip(" ") or FIELD.search(self.answer):
            raise ValueError("answer cannot end with a space (the answer word brings it) and has no fields")
        if not self.yes.strip() or not self.no.strip() or self.yes == self.no:
            raise ValueError(f"yes = {self.yes!r} and no = {self.no!r} must be two different words")
        return self

    def check(
        self, catalogue: Iterable[str], profiles: Iterable[str], words: Iterable[str], levels: Sequence[float | str] = (5.0,)
    ) -> None:
        """Raise ConfigError where a line needs a field that the data set lacks; optional words may lack theirs."""
        check_fields(self, self.allowed(catalogue, profiles, words, levels))

    def allowed(
        self, catalogue: Iterable[str], profiles: Iterable[str], words: Iterable[str], levels: Sequence[float | str]
    ) -> dict[str, set[str]]:
        """What each part may name about a data set with these columns and levels."""
        told = set[str]()
        if any(levels):
            told = {"rating", "units", "level"} if all(isinstance(level, float) for level in levels) else {"level"}
        items = {"title", OTHERS, *catalogue} - {"item"}
        return {
            "opening": set(words),
            "history": set(words),
            "nothing": set(words),
            "profile": {*profiles, *words, OTHERS} - {"user"},
            "behaviour": {*items, *words, *told, "soft"},
            "soft_user": {*words, "soft"},
            "question": {*items, *words, "soft"},
        }

    def slotted(self, soft: Collection[Place]) -> "Template":
        """The template of prompts with these soft tokens: slots in its lines, and the user's line before the question."""
        changes: dict[str, Any] = {}
        if "behaviours" in soft:
            changes["behaviour"] = with_slot(self.behaviour, ITEM_SLOT)
        question = [*self.question]
        if "target" in soft:
            place = next((at for mark in (MARK, "{title}") for at, line in enumerate(question) if mark in line), 0)
            question[place] = with_slot(question[place], ITEM_SLOT)
        if "user" in soft:
            question.insert(0, with_slot(self.soft_user, USER_SLOT))
        return self.model_copy(update=changes | {"question": tuple(question)})

    def head(self, words: Texts, user: Texts, shown: bool) -> str:
        """All that comes before the behaviours; ``shown`` says whether any follow."""
        profile = self.told(self.profile, user, words, USER_COLUMNS).strip(" ,;.")
        last = self.history if shown else self.nothing
        lines = [*(fill(line, words) for line in self.opening), profile, fill(last, words)]
        return self._around.before + "".join(f"{line}\n" for line in lines if line)

    def behaviour_line(self, words: Texts, item: Texts, level: float | str) -> str:
        """One line; ``1 star``, ``3.5 stars``, or the level's name."""
        return self.about_item(self.behaviour, item, {**words, **level_texts(words, level)}) + "\n"

    def question_lines(self, words: Texts, item: Texts) -> str:
        """The question with its target, up to and with the cue."""
        return "".join(self.question_parts(words, item))

    def question_parts(self, words: Texts, item: Texts) -> tuple[str, str]:
        """The question up to the end of the line that names its target, and the rest, up to and with the cue."""
        lines = [f"{line}\n" if (line := self.about_item(asked, item, words)) else "" for asked in self.question]
        named = 1 + next(place for place, line in enumerate(self.question) if "{title}" in line)
        return "".join(lines[:named]), "".join(lines[named:]) + self.cue

    @property
    def cue(self) -> str:
        """What ends every prompt: ``answer``, and in a chat what opens the assistant's message."""
        return self.answer + self._around.after

    @property
    def words(self) -> tuple[str, str]:
        """Yes and no after the cue; in a chat they begin the assistant's message."""
        if not self.chat:
            return self.yes, self.no
        lead = self._around.lead
        return f"{lead}{self.yes.lstrip()}", f"{lead}{self.no.lstrip()}"

    def item_text(self, words: Texts, item: Texts) -> str:
        """The question's lines alone, without the answer: what an encoder reads of an item."""
        return "\n".join(self.about_item(line, item, words) for line in self.question)

    def render(self, words: Texts, user: Texts, behaviours: Sequence[tuple[Texts, float | str]], target: Texts) -> str:
        """The whole prompt as text: what the token ids of ``segments`` and ``batch`` must be equal to."""
        lines = (self.behaviour_line(words, item, level) for item, level in behaviours)
        return self.head(words, user, bool(behaviours)) + "".join(lines) + self.question_lines(words, target)


class Plain(Template):
    """Few words, for a small LM that reads every token dearly."""

    kind: Literal["plain"] = "plain"
    opening: tuple[str, ...] = ()
    profile: str = "[[{gender}]][[, {age}]][[, {occupation}]][[, {country}]][[; {others}]]"
    history: str = "They {did} these {items}, oldest first:"
    nothing: str = "What they {did} is not known."
    behaviour: str = "{title}[[ ({level})]]"
    question: tuple[str, ...] = ("Would they like {title}[[ ({genre})]][[ ({others})]]?",)
    answer: str = "Answer:"


_RELLA_ASKS = (
    "Judging by these {items}, will the user like the {item} ***{title}***[[ ({others})]]?",
    "[[More {stars} mean that the user liked it better.]]",
    "Reply with yes or no and nothing else.",
)


class Rella(Template):
    """The structure of ReLLa's prompts in our own words, inside the chat wrapper of Vicuna v1.1, or in a chat template.

    One difference: behaviours carry no running number, so that a line's tokens do not depend on its place.
    """

    kind: Literal["rella"] = "rella"
    opening: tuple[str, ...] = (
        "A person who wants to know talks with an AI assistant, which answers helpfully, in detail and politely.",
        "USER:",
    )
    profile: str = "[[gender: {gender}]][[; job: {occupation}]][[; age: {age}]][[; country: {country}]][[; {others}]]"
    history: str = "The user {did} the following {items} in this order[[ and {rated} them]]:"
    nothing: str = "Nothing is known of the {items} that the user {did}."
    behaviour: str = "{title}[[ ({level})]]"
    soft_user: str = "This feature holds what the user likes: {soft}"
    question: tuple[str, ...] = _RELLA_ASKS
    answer: str = "ASSISTANT:"
    in_chat: ClassVar[Mapping[str, Any]] = {"opening": (), "question": _RELLA_ASKS[:2], "answer": _RELLA_ASKS[2]}


AnyTemplate = Annotated[Plain | Rella, Field(discriminator="kind")]
