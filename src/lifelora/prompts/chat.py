"""The chat template of a tokenizer: what it puts around a prompt and around its answer. Knows no data set and no model.

A template is rendered around words that stand in for the prompt, and what it says before and after them is all that is taken. So
no text of the data passes through it: what a title spells ends no turn and opens none. The control tokens are the template's own
(``LineTokenizer.marked``).

A template is code out of a model's folder. ``transformers`` runs it in the sandbox of Jinja, and its output is bounded here.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeVar

from lifelora.errors import ConfigError, on_one_line
from lifelora.prompts.slots import SlotTokenizer
from lifelora.prompts.wording.chat import PLAIN, Around, Chat
from lifelora.prompts.wording.fields import marked
from lifelora.prompts.wording.others import Telling
from lifelora.tokens import LineTokenizer

DAY = {"d": "26", "-d": "26", "m": "07", "b": "Jul", "B": "July", "Y": "2024", "y": "24", "a": "Fri", "A": "Friday"}
"""The day of every chat: today's date would change the prompts of a run from day to day."""
CLOCK = "strftime_now"
_SAID = "".join(f" | replace('%{code}', '{said}')" for code, said in DAY.items())
STOPPED = "{%- macro " + CLOCK + "(format) -%}{{ format" + _SAID + " }}{%- endmacro -%}"
"""Put before a template that asks for the time."""
KNOWN = {"enable_thinking": False, "date_string": "26 Jul 2024"}
"""For templates that know them: an answer has no room for thinking aloud."""
LONGEST = 1 << 16
"""Characters that a template may add to what is said."""
MEND = (
    "repair it (chat_template.jinja, tokenizer_config.json), take another backbone, or let systems do without it "
    "(template.chat = false)"
)
ANSWER = "Answer-3f0c"
PROMPT = "Prompt-3f0c 'words' & <signs>,\n\"lines\"  and {{ braces }}: \\1\n\nat last."
"""Stands in for a prompt: a template that gives it as it is does so with any."""
AnyTelling = TypeVar("AnyTelling", bound=Telling)


def rendered(tokenizer: Any, *turns: dict[str, str], answer: bool = False) -> str:
    """The turns as the tokenizer's chat template writes them, with what opens an answer.

    Raises ConfigError where there is no chat template, where it refuses the turns, and where it writes more than ``LONGEST``.
    """
    if not getattr(tokenizer, "chat_template", None):
        raise ConfigError(
            "template.chat = true, and the tokenizer has no chat template (chat_template.jinja, tokenizer_config.json): the "
            "model was not tuned for chats; set template.chat = false, or take a backbone that was."
        )
    try:
        template = tokenizer.get_chat_template()
        template = STOPPED + template if CLOCK in template else template
        text: str = tokenizer.apply_chat_template(
            list(turns), chat_template=template, tokenize=False, add_generation_prompt=answer, **KNOWN
        )
    except Exception as error:  # whatever the code of a model's folder raises
        mend = "leave out template.system" if turns[0]["role"] == "system" else MEND
        roles = ", ".join(turn["role"] for turn in turns)
        raise ConfigError(
            f"the tokenizer's chat template refuses a chat of {roles} ({type(error).__name__}: "
            f"{on_one_line(str(error))[:200]}); {mend}."
        ) from error
    if len(text) > LONGEST + sum(len(turn["content"]) for turn in turns):
        raise ConfigError(f"the tokenizer's chat template writes {len(text):,} characters around a short message; {MEND}.")
    return text


def around(tokenizer: Any, system: str | None = None) -> Around:
    """What the chat template puts around a prompt, which is the user's message, and around the assistant's answer.

    Raises ConfigError for a template that changes the message, so that no line of it could be tokenised apart, and for one that
    knows no system's message where there is one.
    """
    turns = [] if system is None else [{"role": "system", "content": system}]
    turns.append({"role": "user", "content": PROMPT})
    before, *rest = rendered(tokenizer, *turns, answer=True).split(PROMPT)
    if len(rest) != 1:
        raise ConfigError(
            f"the tokenizer's chat template {'repeats' if rest else 'leaves out or changes'} what the user says, so a prompt "
            f"cannot be put into it line by line; {MEND}."
        )
    after = rest[0]
    if system is not None and system not in before + after:
        raise ConfigError(
            "the tokenizer's chat template leaves out or changes the system's message; leave out template.system, or put the "
            "words into template.opening."
        )
    # Some templates put the system's message into the last turn alone, so what stands around an answer is found without it.
    asked = rendered(tokenizer, turns[-1], answer=True)
    opened, said, end = rendered(tokenizer, turns[-1], {"role": "assistant", "content": ANSWER}).rpartition(ANSWER)
    if not said:
        raise ConfigError(
            "the tokenizer's chat template leaves out what the assistant says, so it does not say how an answer begins and ends; "
            f"{MEND}."
        )
    # A template that opens the answer with a place to think aloud does not write it where there is an answer.
    lead = opened.removeprefix(asked) if opened.startswith(asked) else ""
    opening = lead.rstrip(" ")  # of templates that open an answer where there is one, and not where it is asked for
    return Around(before, after + opening, lead[len(opening) :], end)


def spelled(
    templates: Sequence[AnyTelling], tokenizer: Any, chat: Chat, *, slots: bool = False
) -> tuple[LineTokenizer, list[AnyTelling]]:
    """What tokenises lines, and templates as it takes them: their own words marked, and in a chat where ``chat`` says so."""
    by = SlotTokenizer(tokenizer) if slots else LineTokenizer(tokenizer)
    own = [marked(template, by.marked) for template in templates]
    if not chat.chat:
        return by, own
    by.start = []  # the chat template brings it
    found = around(tokenizer, chat.system)
    ended = replace(found, end=by.through_control(found.end) or PLAIN.end).marked(by.marked)
    return by, [template.within(ended) for template in own]
