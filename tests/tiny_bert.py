"""A random BERT of 16 dimensions with a WordPiece tokenizer made on the spot, as a folder: shared by several folders of tests."""

from collections.abc import Iterable
from pathlib import Path
from string import ascii_lowercase, digits

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast
from transformers.utils import logging

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
LETTERS = [letter * 2 for letter in ascii_lowercase + digits]
"""So that every letter is a piece, at the start of a word and in it."""


def word_piece(texts: Iterable[str] = ()) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=400, special_tokens=SPECIAL, show_progress=False)
    tokenizer.train_from_iterator([*LETTERS, *texts], trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=512,
    )


def saved_bert(folder: Path, texts: Iterable[str] = ()) -> Path:
    logging.disable_progress_bar()
    tokenizer = word_piece(texts)
    torch.manual_seed(0)
    BertModel(
        BertConfig(
            vocab_size=len(tokenizer),
            hidden_size=16,
            intermediate_size=24,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=512,
            initializer_range=0.3,
        )
    ).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
