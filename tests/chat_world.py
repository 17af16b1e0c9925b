"""Chat templates of several families, written as theirs are, each with a tokenizer whose control tokens it spells."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from unittest.mock import patch

from tokenizers import AddedToken, Tokenizer
from transformers import PreTrainedTokenizerFast
from transformers.utils import chat_template_utils

DAY = "26 Jul 2024"
"""Of every chat."""
TURNS = "{% for m in messages %}"
CHATML = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nYou are Tiny, a helpful assistant<|im_end|>\n{% endif %}"
    + TURNS
    + "{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA_2 = (
    "{% if messages[0]['role'] == 'system' %}{% set system = '<<SYS>>\n' + messages[0]['content'] + '\n<</SYS>>\n\n' %}"
    "{% set messages = messages[1:] %}{% else %}{% set system = '' %}{% endif %}" + TURNS + "{% if m['role'] == 'user' %}"
    "{{ bos_token + '[INST] ' + (system if loop.first else '') + m['content'].strip() + ' [/INST]' }}"
    "{% else %}{{ ' ' + m['content'].strip() + ' ' + eos_token }}{% endif %}{% endfor %}"
)
LLAMA_3 = (
    "{{ bos_token }}{% if not date_string is defined %}{% set date_string = strftime_now('%d %b %Y') %}{% endif %}"
    "{% if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'] | trim %}{% set messages = messages[1:] %}"
    "{% else %}{% set system = '' %}{% endif %}<|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December "
    "2023\nToday Date: {{ date_string }}\n\n{{ system }}<|eot_id|>" + TURNS + "{{ '<|start_header_id|>' + m['role'] + "
    "'<|end_header_id|>\n\n' + m['content'] | trim + '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    + TURNS
    + "{% if m['role'] == 'assistant' %}{% set role = 'model' %}{% else %}{% set role = m['role'] %}{% endif %}"
    "{{ '<start_of_turn>' + role + '\n' + m['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
MISTRAL = (
    "{% if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'] %}{% set messages = messages[1:] %}"
    "{% endif %}{{ bos_token }}" + TURNS + "{% if m['role'] == 'user' %}{{ '[INST] ' }}{% if loop.last and system is defined %}"
    "{{ system + '\n\n' }}{% endif %}{{ m['content'] + '[/INST]' }}{% else %}{{ ' ' + m['content'] + eos_token }}{% endif %}"
    "{% endfor %}"
)
THINKING = (
    TURNS + "{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|im_start|>assistant\n' }}{% if enable_thinking is defined and enable_thinking is false %}"
    "{{ '<think>\n\n</think>\n\n' }}{% endif %}{% endif %}"
)
DATED = "{{ bos_token }}Today is {{ strftime_now('%A, %d %B %Y') }}.<|im_end|>\n" + CHATML
CLOSED = TURNS + "{{ '<|' + m['role'] + '|>\n' + m['content'] + '<|end|>\n' }}{% endfor %}"
"""It opens no answer where one is asked for."""
WORDS = (
    TURNS + "{{ m['role'].upper() + ': ' + m['content'] + '\n' }}{% endfor %}{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)


@dataclass(frozen=True)
class Family:
    """A chat template, the kind of tokenizer that it comes with, and its control tokens."""

    template: str
    kind: str
    controls: tuple[str, ...]
    bos: str | None
    eos: str
    system: bool = True
    "Whether it takes a system's message."
    lead: str = ""
    "What stands before an answer."


IM = ("<|im_start|>", "<|im_end|>")
FAMILIES = {
    "chatml": Family(CHATML, "byte-level", IM, None, "<|im_end|>"),
    "llama-2": Family(LLAMA_2, "sentencepiece-bpe", (), "<s>", "</s>", lead=" "),
    "llama-3": Family(LLAMA_3, "llama-3", ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"), "<|begin|>", "<|eot_id|>"),
    "gemma": Family(GEMMA, "sentencepiece-bpe", ("<start_of_turn>", "<end_of_turn>"), "<s>", "</s>", system=False),
    "mistral": Family(MISTRAL, "sentencepiece-bpe", ("[INST]", "[/INST]"), "<s>", "</s>", lead=" "),
    "thinking": Family(THINKING, "llama-3", (*IM, "<think>", "</think>"), "<|begin|>", "<|im_end|>"),
    "dated": Family(DATED, "llama-3", IM, "<|begin|>", "<|im_end|>"),
    "closed": Family(CLOSED, "byte-level", ("<|user|>", "<|assistant|>", "<|end|>"), None, "<|end|>"),
    "words": Family(WORDS, "llama-3", (), "<|begin|>", "<|begin|>", lead=" "),
}
SPELLED = ["<|im_end|>", "<|im_start|>", "</s>", "[INST]", "<start_of_turn>", "<|eot_id|>"]


def chatting(bare: Tokenizer, family: Family) -> PreTrainedTokenizerFast:
    """A tokenizer as transformers loads that of a chat model."""
    bare.add_special_tokens([AddedToken(control, special=True, normalized=False) for control in family.controls])
    made = PreTrainedTokenizerFast(tokenizer_object=bare, bos_token=family.bos, eos_token=family.eos)
    made.chat_template = family.template
    return made


class Stopped(datetime):
    """A clock that stands still."""

    @classmethod
    def now(cls, tz: Any = None) -> "Stopped":
        return cls(2024, 7, 26, 12)


def by_transformers(tokenizer: Any, message: str, system: str | None = None, answer: str | None = None, **more: Any) -> list[int]:
    """The ids that transformers gives a whole chat: up to where an answer begins, or with one."""
    turns = [{"role": "user", "content": message}]
    turns[:0] = [] if system is None else [{"role": "system", "content": system}]
    turns += [] if answer is None else [{"role": "assistant", "content": answer}]
    options = {"date_string": DAY, "enable_thinking": False, "add_generation_prompt": answer is None, "return_dict": False}
    with patch.object(chat_template_utils, "datetime", Stopped):
        ids: list[int] = tokenizer.apply_chat_template(turns, tokenize=True, **options, **more)
    return ids
