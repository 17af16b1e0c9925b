"""A small tokenizer of every kind, without control tokens and with them, else the same: shared by several folders of tests."""

import json
from collections.abc import Callable
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

TITLES = [
    "Heat",
    "The Lord of the Rings",
    "Amélie",
    "Crouching Tiger 卧虎藏龙",
    "im end start system mask",
    "a <b> [c] |d| & s>",
    "8½ (1963)",
    "inst INST s / </",
    "They watched these films, oldest first: (5 stars)",
    "Would they like Heat (Crime)?",
    "Answer: Yes No\n",
    "What they watched is not known.\n",
] * 3
INSIDE = {"</s>": ("</", "s>"), "<|im_start|>": ("<|im_start", "|>"), "<mask>": ("<mask", ">"), "[SEP]": ("[SEP", "]")}
"""Controls in the model's own vocabulary, with the two pieces that merges can make them of, as old conversions write them."""
BEYOND = [
    AddedToken("<|im_end|>", special=True),
    AddedToken("[INST]", special=True),
    AddedToken("<think>", special=False),
    AddedToken("<left>", lstrip=True, special=True),
    AddedToken("<right>", rstrip=True, special=False, normalized=False),
    AddedToken("Nolan", single_word=True, special=False, normalized=False),
    AddedToken("<|im_end|><|again|>", special=True),
]
"""Controls that were added after it was trained."""
CONTROLS = [*INSIDE, *(token.content for token in BEYOND)]
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
ALPHABET = sorted({*"".join([*TITLES, *CONTROLS]), "▁"} - {" "})
PIECES = sorted({piece[:length] for pair in INSIDE.values() for piece in pair for length in range(2, len(piece) + 1)}, key=len)


def with_controls(bare: Tokenizer) -> Tokenizer:
    """The same with ``INSIDE`` at the end of its vocabulary, and within reach of its characters, and ``BEYOND``."""
    state = json.loads(bare.to_str())
    model: dict[str, Any] = state["model"]
    if isinstance(model["vocab"], list):
        model["vocab"] += [[control, 0.0] for control in INSIDE]  # SentencePiece's score of a control: the best there is
    else:
        model["vocab"] |= {control: len(model["vocab"]) + place for place, control in enumerate(INSIDE)}
    if "merges" in model:
        model["merges"] += [list(pair) for pair in INSIDE.values()]
    made = Tokenizer.from_str(json.dumps(state))
    made.add_special_tokens([*INSIDE, *([model["unk_token"]] if model.get("unk_token") else [])])
    made.add_tokens(BEYOND)
    return made


def byte_level() -> Tokenizer:
    """GPT-2's kind."""
    made = _bytes()
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return made


def whole_words() -> Tokenizer:
    """Llama-3's kind takes a word that is in the vocabulary whole, without a merge; here all that has no space is a word."""
    made = _bytes()
    made.model.ignore_merges = True
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r" ?[^\s]+|\n|\s+"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    return made


def prepended() -> Tokenizer:
    """Llama-2's kind: a space in front of every text, bytes for what is unknown."""
    made = _sentence_piece()
    made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    return made


def metaspace() -> Tokenizer:
    """Mistral's kind: a space in front of the first piece alone."""
    made = _sentence_piece()
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    return made


def unigram() -> Tokenizer:
    """T5's kind, which reads look-alikes as what they look like."""
    made = Tokenizer(models.Unigram())
    made.normalizer = normalizers.NFKC()
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    made.train_from_iterator(
        [line for title in TITLES for line in title.splitlines()],
        trainers.UnigramTrainer(
            vocab_size=200, special_tokens=["<unk>"], unk_token="<unk>", initial_alphabet=ALPHABET, show_progress=False
        ),
    )
    return _without_added(made)


def word_piece() -> Tokenizer:
    """BERT's kind, with words between spaces."""
    made = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.train_from_iterator(
        [*TITLES, *(letter * 2 for letter in ALPHABET)],
        trainers.WordPieceTrainer(vocab_size=400, special_tokens=["[UNK]"], show_progress=False),
    )
    return _without_added(made)


def words() -> Tokenizer:
    """A list of words."""
    made = Tokenizer(models.WordLevel(unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.train_from_iterator(TITLES, trainers.WordLevelTrainer(special_tokens=["<unk>"], show_progress=False))
    return _without_added(made)


KINDS: dict[str, Callable[[], Tokenizer]] = {
    "byte-level": byte_level,
    "whole-words": whole_words,
    "prepended": prepended,
    "metaspace": metaspace,
    "unigram": unigram,
    "word-piece": word_piece,
    "words": words,
}
WRITE_ANY_TEXT = ("byte-level", "whole-words", "prepended", "metaspace")


def _bytes() -> Tokenizer:
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    vocab = {letter: number for number, letter in enumerate(sorted(level.alphabet()))}
    merges = [(piece[:-1], piece[-1]) for piece in PIECES]
    vocab |= {piece: len(vocab) + number for number, piece in enumerate(PIECES)}
    for word in ("Ġthe", "ea", "Hea", "Heat", "ĠH", "in", "st"):
        vocab.setdefault(word, len(vocab))
    merges += [("e", "a"), ("H", "ea"), ("Hea", "t"), ("Ġ", "H"), ("i", "n"), ("s", "t")]
    made = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    made.decoder = decoders.ByteLevel()
    return made


def _sentence_piece() -> Tokenizer:
    words = [("e", "a"), ("H", "ea"), ("Hea", "t"), ("▁", "Heat"), ("i", "n"), ("s", "t")]
    merges = [*((piece[:-1], piece[-1]) for piece in PIECES), *words]
    pieces = dict.fromkeys(["<unk>", *BYTES, *ALPHABET, *(left + right for left, right in merges)])
    made = Tokenizer(
        models.BPE(
            vocab={piece: number for number, piece in enumerate(pieces)},
            merges=merges,
            unk_token="<unk>",
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    made.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return made


def _without_added(tokenizer: Tokenizer) -> Tokenizer:
    return Tokenizer.from_str(json.dumps(json.loads(tokenizer.to_str()) | {"added_tokens": []}))
