"""What ``{others}`` in a line stands for: all that is known of an item or a user and that the line does not name itself.

    brand: Argo; colour: red; for tea, loud

Fields come in the order of the data, each with its name; a description comes last, without. Empty ones are left out. All of it
has at most ``other_words`` words. A field's name is data as its value is. Knows rows of texts, no data set and no tokenizer.
"""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from pydantic import Field, PrivateAttr

from lifelora.prompts.wording.chat import PLAIN, Around
from lifelora.prompts.wording.fields import FIELD, Texts, fill
from lifelora.types import Frozen

OTHERS, SOFT, DESCRIPTION = "others", "soft", "description"
ITEM_COLUMNS, USER_COLUMNS = ("item", "title"), ("user",)
"""What is no field of a row: its id, and the title, which has a place of its own."""
LETTERS = 12
"""Characters that a word has at most, on average: so text of a script without spaces, which is one word, is cut, too."""

AnyTelling = TypeVar("AnyTelling", bound="Telling")


@dataclass(frozen=True)
class Part:
    """A field as ``{others}`` or a description tells it: so many of its words."""

    field: str
    text: str
    "Empty where there was no room."
    whole: str

    def __str__(self) -> str:
        name = "" if self.field == DESCRIPTION else " ".join(self.field.split())
        return f"{name}: {self.text}" if name else self.text


class Telling(Frozen):
    """How much of what is known the lines of a prompt tell, and what stands around them."""

    description_words: int = Field(default=60, ge=1)
    "Longer descriptions are cut to this many words, and so is every field in {others}."
    other_words: int = Field(default=120, ge=1)
    "{others} has at most so many words: the first fields, in the order of the data, and then the description."
    leave_out: tuple[str, ...] = ()
    "Fields that {others} leaves out; a line may name them all the same."

    _around: Around = PrivateAttr(default=PLAIN)

    def within(self: AnyTelling, around: Around) -> AnyTelling:
        """The same lines as a message of a chat."""
        made = self.model_copy()
        made._around = around
        return made

    def leaving_out(self: AnyTelling, names: Collection[str]) -> AnyTelling:
        """With more fields that ``{others}`` leaves out: a data set has some of its own (``RawTables.left_out``)."""
        return self.model_copy(update={"leave_out": (*self.leave_out, *names)}) if names else self

    def about_item(self, line: str, item: Texts, beside: Texts) -> str:
        """A line that tells of an item."""
        # A domain word wins over a column of its name: {item} is "film", never an external id.
        return self.told(line, item, {**beside, "title": title_of(item, beside)}, ITEM_COLUMNS)

    def told(self, line: str, row: Texts, beside: Texts, without: Collection[str]) -> str:
        """A line filled with the texts of a row and, before them, with those ``beside`` it.

        ``without`` are the row's columns that are no fields.
        """
        texts = {**row, **beside}
        if texts.get(DESCRIPTION):
            texts[DESCRIPTION] = cut(texts[DESCRIPTION], self.description_words)
        if f"{{{OTHERS}}}" in line:
            parts = self.parts(line, row, beside, without)
            texts[OTHERS] = "; ".join(str(part) for part in parts if part.text)
        return fill(line, texts)

    def shortened(self, lines: Iterable[str], row: Texts, beside: Texts, without: Collection[str]) -> list[Part]:
        """Of what these lines tell of a row: what they tell in part, or, for want of room, not at all."""
        parts = list[Part]()
        for line in lines:
            if f"{{{OTHERS}}}" in line:
                parts += self.parts(line, row, beside, without)
            if f"{{{DESCRIPTION}}}" in line and (whole := " ".join((row.get(DESCRIPTION) or "").split())):
                parts.append(Part(DESCRIPTION, cut(whole, self.description_words), whole))
        return [part for part in parts if part.text != part.whole]

    def parts(self, line: str, row: Texts, beside: Texts, without: Collection[str]) -> Iterator[Part]:
        """What ``{others}`` in a line has of a row, with what there was no room for."""
        # What a line means by {rating} is the user's, and not a film's certificate, which is a field as any other.
        named = {name for name in FIELD.findall(line) if name not in beside} - {OTHERS, SOFT}
        names = [name for name in row if name != DESCRIPTION] + [DESCRIPTION] * (DESCRIPTION in row)
        room = self.other_words
        for name in names:
            if name in named or name in without or name in self.leave_out or not (whole := " ".join((row[name] or "").split())):
                continue
            room -= 0 if name == DESCRIPTION else len(name.split())
            text = cut(whole, min(room, self.description_words)) if room > 0 else ""
            room = room - len(text.split()) if text else 0  # what does not fit ends it: no later field takes its place
            yield Part(name, text, whole)


def title_of(item: Texts, words: Texts) -> str:
    """What an item is called, also where it has no title."""
    return item.get("title") or f"unknown {words['item']}"


def cut(text: str, words: int) -> str:
    """The first words of a text, each a space apart."""
    return " ".join(text.split()[:words])[: words * LETTERS].rstrip()
