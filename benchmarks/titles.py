"""Seconds to choose among 20 titles: a shared prompt, against a full prompt for each, and against writing the answer.

Run ``python benchmarks/titles.py`` (``--base`` for a 110M model, minutes). All ways see the same rows in turn, in one
process, and are timed in CPU seconds of one thread; the scores of the two exact ways are compared. Token ids are random:
prompts of about the length that 10 behaviours and 20 candidates have, titles of 3 to 12 tokens and one of 25, rank-8
``full`` couplings, another user in each row. A random LM ends no line, so free writing takes all the tokens it may.
"""

import argparse
import json
import math
import shlex
import statistics
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from lifelora.llm.likelihoods import likelihoods
from lifelora.llm.personal import PersonalBatch
from lifelora.llm.search import choose
from lifelora.llm.titles import TitleLM
from lifelora.llm.trees.ready import ready
from lifelora.llm.write import write
from lifelora.lora.adapters import Adaptation
from lifelora.lora.coupling import Full
from lifelora.lora.inject import personalise
from lifelora.prompts.fill import Prompts
from lifelora.prompts.titles import Titles
from lifelora.seeds import torch_generator

VOCABULARY, USER, CANDIDATES, END = 32_000, 64, 20, 1
WRITTEN = 16
NO_END: Any = SimpleNamespace(ends=[], line=lambda ids: "")
"""Reads nothing, so that every row is written to its last token."""
SIZES = {"tiny": (256, 4, 4), "base": (768, 12, 12)}


def made_lm(size: str, seed: int) -> TitleLM:
    """A random Llama whose adapters are as if they had learnt."""
    width, layers, heads = SIZES[size]
    torch.manual_seed(seed)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=width,
            intermediate_size=width * 8 // 3,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            num_key_value_heads=heads,
            max_position_embeddings=1024,
        )
    ).eval()
    ready(model)
    adapters = personalise(
        model, Adaptation(coupling=Full.Config(rank=8), dropout=0.0), user_width=USER, generator=torch_generator(seed, "adapters")
    )
    with torch.no_grad():
        for _, layer in adapters.layers:
            layer.B_OQ.normal_(std=0.02)
    return TitleLM(model, adapters).eval()


def made_rows(count: int, generator: torch.Generator) -> tuple[PersonalBatch, Titles]:
    """Left-padded prompts of 180 to 260 tokens, right-padded titles."""

    def draw(low: int, high: int, *shape: int) -> Tensor:
        return torch.randint(low, high, shape, generator=generator)

    length_B, length_BC = draw(180, 261, count), draw(3, 13, count, CANDIDATES)
    length_BC[:, 0] = 25
    L, A = int(length_B.max()), int(length_BC.max())
    mask_BL = torch.arange(L) >= L - length_B[:, None]
    mask_BCA = torch.arange(A) < length_BC[..., None]
    titles_BCA = draw(2, VOCABULARY, count, CANDIDATES, A) * mask_BCA
    titles_BCA[torch.arange(A) == length_BC[..., None] - 1] = END
    prompts = Prompts(draw(2, VOCABULARY, count, L) * mask_BL, mask_BL, torch.full((count,), 10))
    return PersonalBatch(prompts, torch.randn(count, USER, generator=generator)), Titles(titles_BCA, mask_BCA)


@torch.no_grad()
def full_prompts(lm: TitleLM, batch: PersonalBatch, titles: Titles) -> Tensor:
    """The score of every title by a prompt of its own, a row's titles together; logits at the answers only."""
    score_BC, asked = torch.zeros(titles.mask_BCA.shape[:2]), batch.prompts
    assert isinstance(asked, Prompts)
    for row in range(len(score_BC)):
        ids = asked.tokens_BL[row][asked.mask_BL[row]]
        lengths = titles.mask_BCA[row].sum(dim=1).tolist()
        longest = max(lengths)
        tokens = torch.zeros(CANDIDATES, len(ids) + longest, dtype=torch.int64)
        for column, length in enumerate(lengths):
            tokens[column, longest - length :] = torch.cat([ids, titles.tokens_BCA[row, column, :length]])
        mask = torch.arange(tokens.shape[1]) >= longest - torch.tensor(lengths)[:, None]
        prompts = Prompts(tokens, mask, torch.zeros(CANDIDATES, dtype=torch.int64))
        each = PersonalBatch(prompts, batch.user_BD[[row]].expand(CANDIDATES, -1))
        with lm.scope(each):
            logits = lm.run(each, logits_to_keep=longest + 1, use_cache=False).logits[:, :-1]
        own = logits.log_softmax(dim=-1).gather(2, tokens[:, -longest:, None])[..., 0]
        score_BC[row] = (own * (torch.arange(longest) >= longest - torch.tensor(lengths)[:, None])).sum(dim=1)
    return score_BC


def measured(size: str, rows: int, rounds: int, seed: int) -> dict[str, object]:
    """All ways in turn on the same rows; CPU seconds a row."""
    lm, generator = made_lm(size, seed), torch_generator(seed, "rows")
    seconds: dict[str, list[float]] = {}
    tokens: dict[str, float] = {}
    apart = 0.0

    def timed(way: str, run: Callable[[], Any]) -> Any:
        began = time.process_time()
        made = run()
        seconds.setdefault(way, []).append((time.process_time() - began) / rows)
        return made

    for number in range(rounds + 1):
        batch, titles = made_rows(rows, generator)
        naive = timed("a full prompt each", partial(full_prompts, lm, batch, titles))
        shared = timed("shared prompt", partial(likelihoods, lm, batch, titles))
        greedy = timed("constrained, greedy", partial(choose, lm, batch, titles))
        beams = timed("constrained, 4 beams", partial(choose, lm, batch, titles, beams=4))
        free = timed(f"free, {WRITTEN} tokens", partial(write, lm, batch, NO_END, limit=WRITTEN))
        apart = max(apart, float((naive - shared.score_BC).abs().max()))
        assert math.isfinite(apart)
        costs = {
            "shared prompt": shared.cost,
            "constrained, greedy": greedy.cost,
            "constrained, 4 beams": beams.cost,
            f"free, {WRITTEN} tokens": free.cost,
        }
        tokens = {way: cost.tokens / rows for way, cost in costs.items()}
        if number == 0:  # to warm up
            seconds.clear()

    def three(values: list[float]) -> dict[str, Any]:
        low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
        return {"median": round(middle, 4), "quartiles": [round(low, 4), round(high, 4)]}

    first = seconds["a full prompt each"]
    return {
        way: {
            "seconds_a_row": three(values),
            "times_faster": three([a / b for a, b in zip(first, values, strict=True)]),
            **({"tokens_a_row": round(tokens[way], 1)} if way in tokens else {}),
        }
        for way, values in seconds.items()
    } | {"n": rounds * rows, "rounds": rounds, "rows_a_round": rows, "largest_difference": apart}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--rows", type=int, default=2)
    parser.add_argument("--base", action="store_true", help="a model of 12 layers and width 768, too")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "titles.json")
    args = parser.parse_args()
    torch.set_num_threads(1)
    sizes = {"tiny": measured("tiny", args.rows, args.rounds, args.seed)}
    if args.base:
        sizes["base"] = measured("base", 1, 3, args.seed)
    result = {
        **sizes,
        "candidates": CANDIDATES,
        "seed": args.seed,
        "command": shlex.join(["python", *sys.argv]),
        "date": datetime.now(UTC).date().isoformat(),
        "threads": 1,
        "torch": torch.__version__,
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
