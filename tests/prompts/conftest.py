"""A small log with nasty titles, and one freshly trained tokenizer of each family."""

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from lifelora.data.dataset import Dataset
from lifelora.data.prepare import Rules, prepare
from lifelora.data.raw import RawTables, Words
from lifelora.data.split import LeaveOneOut
from lifelora.tokens import LineTokenizer

NASTY = [
    "(500) Days of Summer",
    "2001: A Space Odyssey",
    "Se7en",
    "Seven 7",
    "'Til There Was You",
    '"Quoted"',
    "[REC]",
    "{braces} {title}",
    "[[double]]",
    "¡Three Amigos!",
    "Amélie",
    "Crouching Tiger 卧虎藏龙",
    "🙂 smile 👩‍👩‍👧",
    "!!!",
    "8½",
    "…And Justice for All",
    "Who's Afraid?",
    "M*A*S*H",
    "  spaced   out  ",
    "two\nlines\r\nor\tthree",
    "A",
    "",
    "1984",
    "zero\u200bwidth",
    "no\u00a0break",
    "<b>bold</b>",
    "\\n",
    "Étoile\u2028line",
    "don't 'll 've",
    "-1",
    "▁low",
    "Ġbyte",
]
LLAMA_3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
    r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
TEXTS = [
    *NASTY, "They watched these films, oldest first: Alien (5 stars) Heat (1 star)",
    "Would they like Heat (Crime)? Answer: Yes", "Answer: No",
    "male, 25-34, writer\nfemale, 18-24, programmer\n", ")\n", ":\n", "What they watched is not known.\n",
] * 3  # fmt: skip
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
WORDS = Words(item="film", items="films", did="watched", star="star", stars="stars")


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """12 users, the nasty films, ratings from 1 to 5 with half stars; user 0's profile is unknown."""
    rng = np.random.default_rng(7)
    user, item = np.nonzero(rng.random((12, len(NASTY))) < 0.7)
    interactions = pa.table(
        {
            "user": [f"u{u:02}" for u in user],
            "item": [f"i{i:02}" for i in item],
            "rating": pa.array(rng.integers(2, 11, len(user)) / 2, pa.float32()),
            "time": pa.array(rng.integers(0, 1000, len(user)), pa.int64()),
        }
    )
    catalogue = pa.table(
        {
            "item": [f"i{i:02}" for i in range(len(NASTY))],
            "title": NASTY,
            "genre": ["Crime" if i % 3 else "" for i in range(len(NASTY))],
            "description": ["word " * 70 if i % 2 else "" for i in range(len(NASTY))],
        }
    )
    profiles = pa.table(
        {
            "user": [f"u{u:02}" for u in range(12)],
            "gender": ["" if u == 0 else ["male", "female"][u % 2] for u in range(12)],
            "age": ["" if u == 0 else "25-34" for u in range(12)],
        }
    )
    raw = RawTables(interactions, catalogue, profiles, WORDS)
    return prepare(raw, Rules(split=LeaveOneOut()), tmp_path_factory.mktemp("data"), "nasty")


def byte_level() -> Tokenizer:
    """GPT-2's kind: no special token at the start."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(TEXTS, trainers.BpeTrainer(vocab_size=600, initial_alphabet=alphabet, show_progress=False))
    return tokenizer


def llama_3() -> Tokenizer:
    """Byte-level BPE with a regex that joins newlines to the punctuation before them, and BOS."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(LLAMA_3), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(TEXTS, trainers.BpeTrainer(vocab_size=700, initial_alphabet=alphabet, show_progress=False))
    tokenizer.add_special_tokens([AddedToken("<|begin|>", special=True)])
    bos = tokenizer.token_to_id("<|begin|>")
    tokenizer.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(single="<|begin|> $A", special_tokens=[("<|begin|>", bos)]),
        ]
    )
    return tokenizer


def sentence_piece_bpe() -> Tokenizer:
    """Llama-2's kind: ▁ for spaces, one at the start, bytes for what is unknown, BOS and EOS."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    # Trained word by word, so that no piece goes over a space; used on the text as a whole, as Llama-2's is.
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    trainer = trainers.BpeTrainer(
        vocab_size=500, special_tokens=["<unk>", "<s>", "</s>", *BYTES], limit_alphabet=60, show_progress=False
    )
    lines = [line for text in TEXTS for line in text.splitlines()]
    tokenizer.train_from_iterator(lines, trainer)
    tokenizer.pre_tokenizer = None
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)])
    return tokenizer


def unigram() -> Tokenizer:
    """Unigram pieces with Metaspace, and a newline of its own."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    trainer = trainers.UnigramTrainer(vocab_size=300, special_tokens=["<unk>", "\n"], unk_token="<unk>", show_progress=False)
    tokenizer.train_from_iterator([line for text in TEXTS for line in text.splitlines()], trainer)
    return tokenizer


FAMILIES: dict[str, Callable[[], Tokenizer]] = {
    "byte-level": byte_level,
    "llama-3": llama_3,
    "sentencepiece-bpe": sentence_piece_bpe,
    "unigram": unigram,
}


@pytest.fixture(scope="session")
def fresh() -> Callable[[str], Tokenizer]:
    """A newly trained tokenizer by the name of its family."""
    return lambda name: FAMILIES[name]()


@pytest.fixture(scope="session")
def line_tokenizers() -> Callable[[str], LineTokenizer]:
    """The same, made once and ready to encode."""
    return functools.cache(lambda name: LineTokenizer(FAMILIES[name]()))


@pytest.fixture(scope="session", params=["byte-level", "llama-3", "sentencepiece-bpe", "unigram", "wrapped", "real"])
def tokenizer(request: pytest.FixtureRequest) -> Any:
    """Every family bare, one as transformers wraps it, and a real pretrained one where $LIFELORA_MODELS has it."""
    if request.param == "real":
        folder = Path(os.environ.get("LIFELORA_MODELS", "")) / "stories260K"
        if "LIFELORA_MODELS" not in os.environ or not folder.exists():
            pytest.skip("$LIFELORA_MODELS has no stories260K")
        return Tokenizer.from_file(str(folder / "tokenizer.json"))
    if request.param == "wrapped":
        from transformers import PreTrainedTokenizerFast

        return PreTrainedTokenizerFast(
            tokenizer_object=sentence_piece_bpe(), unk_token="<unk>", bos_token="<s>", eos_token="</s>"
        )
    return FAMILIES[request.param]()
