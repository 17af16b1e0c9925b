"""Prompts per second: lines tokenised once and put together, against tokenising every prompt's string.

Run ``python benchmarks/prompts.py``; the two ways see the same rows in turn, and their token ids are compared. Beside them the
samples of histories that grow, as trees and as a prompt each. The log is made on the spot (titles of ML-1M's kind and length,
K = 30), the tokenizer trained on it (byte-level BPE).
"""

import argparse
import json
import os
import shlex
import statistics
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # one thread for both ways

import numpy as np
import pyarrow as pa
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from lifelora.data.dataset import Dataset
from lifelora.data.prepare import Rules, prepare
from lifelora.data.raw import RawTables, Words
from lifelora.prompts.slots import ITEM, USER, SlotTokenizer
from lifelora.prompts.wording.fields import marked
from lifelora.prompts.wording.yes_no import Rella, Template
from lifelora.prompts.yes_no import YesNoBuilder
from lifelora.tokens import LineTokenizer

SYLLABLES = ["ar", "be", "cor", "den", "el", "fa", "gri", "ho", "in", "ju", "ka", "lo", "mi", "nor", "os", "pe", "qua"]
EVENTS_A_USER = 160


def made_log(n_users: int, n_items: int, seed: int, folder: Path) -> Dataset:
    """Random users, films with titles of one to four invented words and a year, ratings from 1 to 5."""
    rng = np.random.default_rng(seed)

    def word() -> str:
        return "".join(rng.choice(SYLLABLES, rng.integers(1, 4))).capitalize()

    def title() -> str:
        return " ".join(word() for _ in range(rng.integers(1, 5))) + f" ({rng.integers(1920, 2001)})"

    n = n_users * EVENTS_A_USER
    interactions = pa.table(
        {
            "user": np.repeat(np.arange(n_users), EVENTS_A_USER).astype(str),
            "item": rng.integers(0, n_items, n).astype(str),
            "rating": pa.array(rng.integers(1, 6, n), pa.float32()),
            "time": rng.integers(0, 10**9, n),
        }
    )
    catalogue = pa.table({"item": np.arange(n_items).astype(str), "title": [title() for _ in range(n_items)]})
    profiles = pa.table(
        {
            "user": np.arange(n_users).astype(str),
            "gender": rng.choice(["female", "male"], n_users),
            "age": rng.choice(["18-24", "25-34", "35-44"], n_users),
            "occupation": rng.choice(["writer", "farmer"], n_users),
        }
    )
    return prepare(
        RawTables(interactions, catalogue, profiles, Words(item="film", items="films", did="watched")), Rules(), folder, "made"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--strings", type=int, default=256, help="prompts a round that are also made from strings")
    parser.add_argument("-k", type=int, default=30)
    parser.add_argument("--block", type=int, default=16, help="samples of a user on one trunk, where they are trees")
    parser.add_argument("--trees-k", type=int, nargs="*", default=[10, 30], help="behaviours before a trunk's first sample")
    parser.add_argument("--soft-at", nargs="*", default=[], help="whose soft tokens the prompts have; none by default")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "prompts.json")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        dataset = made_log(1000, 3883, args.seed, Path(folder))
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        # A small vocabulary makes a line about as long as a film's title is with Llama's tokenizer.
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        texts = [*dataset.titles, *[" Yes No"] * 100]
        tokenizer.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=700, initial_alphabet=alphabet, show_progress=False))
        began = time.perf_counter()
        template = Rella(opening=("USER:",))
        builder = YesNoBuilder.make(dataset, template, tokenizer, max_tokens=2048, soft=args.soft_at)
        built = time.perf_counter() - began
        line_tokenizer = SlotTokenizer(tokenizer) if args.soft_at else LineTokenizer(tokenizer)
        result = measured(dataset, builder, marked(template.slotted(args.soft_at), line_tokenizer.marked), line_tokenizer, args)
        result["trees"] = [grown(dataset, builder, k, args) for k in args.trees_k]
    result |= {
        "soft_at": args.soft_at,
        "seconds_to_tokenise_lines": round(built, 3),
        "lines": len(builder.lines.offsets_N) - 1,
        "k": args.k,
        "batch": args.batch,
        "rounds": args.rounds,
        "seed": args.seed,
        "command": shlex.join(["python", *sys.argv]),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "threads": 1,
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


def measured(
    dataset: Dataset, builder: YesNoBuilder, template: Template, line_tokenizer: LineTokenizer, args: argparse.Namespace
) -> dict[str, object]:
    """Both ways in turn, CPU seconds of each; every prompt made from a string is compared."""
    rng = np.random.default_rng(args.seed)
    words, items, profiles = dataset.words.model_dump(), dataset.catalogue.to_pylist(), dataset.profiles.to_pylist()
    fast, slow, tokens, compared = [], [], [], 0
    for _ in range(args.rounds):
        targets = dataset.targets(rng.choice(dataset.samples["train"], args.batch, replace=False))
        rows_BK, mask_BK = dataset.history(targets, args.k)
        began = time.process_time()
        batch = builder.build(targets, rows_BK, mask_BK)
        fast.append(args.batch / (time.process_time() - began))
        tokens.append(float(batch.mask_BL.sum()) / args.batch)
        began, made = time.process_time(), []
        for place in range(args.strings):
            rows = rows_BK[place, mask_BK[place]]
            levels = [dataset.rating_levels[code] for code in dataset.rating_N[rows]]
            shown = [(items[item], level) for item, level in zip(dataset.item_N[rows], levels, strict=True)]
            text = template.render(words, profiles[targets.user_B[place]], shown, items[targets.item_B[place]])
            made.append(line_tokenizer.whole(text))
        slow.append(args.strings / (time.process_time() - began))
        tokens_BL = batch.tokens_BL
        if batch.soft_BL is not None:
            tokens_BL = torch.where(batch.soft_BL >= 0, ITEM, torch.where(batch.soft_BL == USER, USER, tokens_BL))
        for place, ids in enumerate(made):
            assert tokens_BL[place][batch.mask_BL[place]].tolist() == ids, place
        compared += len(made)
    ratios = sorted(a / b for a, b in zip(fast, slow, strict=True))
    return {
        "prompts_per_second": round(statistics.median(fast)),
        "prompts_per_second_from_strings": round(statistics.median(slow)),
        "ratio_median": round(statistics.median(ratios)),
        "ratio_range": [round(ratios[0]), round(ratios[-1])],
        "tokens_a_prompt": round(statistics.mean(tokens), 1),
        "n": args.rounds * args.batch,
        "compared_and_identical": compared,
    }


def grown(dataset: Dataset, builder: YesNoBuilder, k: int, args: argparse.Namespace) -> dict[str, object]:
    """Whole blocks of users' samples, each shown the history from ``k`` behaviours before its block on: CPU seconds.

    Of every round the first trees are compared, branch by branch, with their prompts.
    """
    rng, block = np.random.default_rng(args.seed), args.block
    fast, plain, tokens_of_trees, tokens_of_prompts, compared = [], [], 0, 0, 0
    for _ in range(args.rounds):
        drawn = rng.choice(dataset.n_users * (EVENTS_A_USER // block), args.batch // block, replace=False)
        user_B, start_B = (
            np.repeat(drawn // (EVENTS_A_USER // block), block),
            np.repeat(drawn % (EVENTS_A_USER // block), block) * block,
        )
        targets = dataset.targets(dataset.log.rows(user_B, start_B + np.tile(np.arange(block), len(drawn))))
        rows_BK, mask_BK = dataset.history(targets, k + block - 1)
        mask_BK &= np.arange(k + block - 1) >= (k + block - 1 - targets.position_B + np.maximum(0, start_B - k))[:, None]
        began = time.process_time()
        trees = builder.trees(targets, rows_BK, mask_BK, np.repeat(drawn, block))
        fast.append(len(targets) / (time.process_time() - began))
        began = time.process_time()
        prompts = builder.build(targets, rows_BK, mask_BK)
        plain.append(len(targets) / (time.process_time() - began))
        tokens_of_trees, tokens_of_prompts = tokens_of_trees + len(trees.tokens_L), tokens_of_prompts + int(prompts.mask_BL.sum())
        for number in range(min(args.strings, len(targets))):
            trunk, start = int(trees.trunk_R[: trees.tree_G[number]].sum()), int(trees.starts[number])
            ids = [
                *trees.tokens_L[trunk : trunk + int(trees.place_G[number])].tolist(),
                *trees.tokens_L[start : start + int(trees.branch_G[number])].tolist(),
            ]
            assert ids == prompts.tokens_BL[number][prompts.mask_BL[number]].tolist(), number
            compared += 1
    return {
        "k": k,
        "block": block,
        "samples_per_second": round(statistics.median(fast)),
        "samples_per_second_as_prompts": round(statistics.median(plain)),
        "tokens_a_sample": round(tokens_of_trees / (args.rounds * len(targets)), 1),
        "tokens_a_prompt": round(tokens_of_prompts / (args.rounds * len(targets)), 1),
        "n": args.rounds * len(targets),
        "compared_and_identical": compared,
    }


if __name__ == "__main__":
    main()
