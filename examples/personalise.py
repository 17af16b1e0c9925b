"""A causal LM made personal in five lines, on a toy task whose right answer is known.

After a prompt that ends in token k, users of tribe 0 mean token k + 10 and users of tribe 1 mean token k + 20. Nothing
in the prompt says who asks: only the vector u does. Each prompt of the test is asked once by each tribe, so whoever does
not read u is right at most half of the time, at a loss of at least ln 2 = 0.69.
"""

from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from lifelora.lora import Adaptation, Adapters, Coupling, Full, Identity, load, personalise, save, summarise, write_peft_adapter

USER_WIDTH, PROMPT_LENGTH, LAST_TOKENS, STEPS = 8, 4, 10, 150


def backbone() -> LlamaForCausalLM:
    """A small Llama with random weights, the same at every call."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=32, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4, initializer_range=0.2
    )
    return LlamaForCausalLM(config).eval()


def ask(rows: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """u, prompts and right next tokens; every prompt comes twice, first from tribe 0 and then from tribe 1."""
    generator = torch.Generator().manual_seed(seed)
    tokens_BL = torch.randint(LAST_TOKENS, (rows, PROMPT_LENGTH), generator=generator).repeat_interleave(2, dim=0)
    tribe_B = torch.arange(2).repeat(rows)
    u_BD = torch.randn(2 * rows, USER_WIDTH, generator=generator)
    u_BD[:, 0] = 4.0 * tribe_B - 2.0  # the entry that tells the tribe
    return u_BD, tokens_BL, tokens_BL[:, -1] + 10 * (tribe_B + 1)


def descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> float:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


def train(coupling: Coupling.Config) -> Adapters:
    """A personal LM; prints how its loss falls, and how often it is right for users whom it has not seen."""
    model, losses = backbone(), []

    # The five lines that matter. The scope holds C(u) of each row, and contains forward and backward.
    adapters = personalise(model, Adaptation(coupling=coupling, targets=("q_proj", "v_proj"), dropout=0.0), user_width=USER_WIDTH)
    optimizer = torch.optim.AdamW(adapters.parameters(), lr=1e-2)
    for u_BD, tokens_BL, answer_B in (ask(32, seed) for seed in range(STEPS)):
        with adapters.scope(u_BD):
            losses.append(descend(optimizer, F.cross_entropy(model(tokens_BL).logits[:, -1], answer_B)))

    u_BD, tokens_BL, answer_B = ask(200, seed=STEPS)
    right = (scores(adapters, u_BD, tokens_BL).argmax(-1) == answer_B).float().mean()
    print(f"{type(adapters.coupling).__name__}: loss {losses[0]:.2f} -> {losses[-1]:.2f}, right {right:.0%} of 400 test samples")
    print(f"  {summarise(adapters, u_BD[:16])}")
    return adapters


@torch.no_grad()
def scores(adapters: Adapters, u_BD: Tensor, tokens_BL: Tensor) -> Tensor:
    with adapters.scope(u_BD):
        return adapters.model(tokens_BL).logits[:, -1]


def main(folder: Path) -> None:
    torch.set_num_threads(1)  # the products are tiny: threads would wait for one another longer than they work
    train(Identity.Config(rank=4))
    adapters = train(Full.Config(rank=4))
    u_BD, tokens_BL, answer_B = ask(1, seed=STEPS + 1)
    before = scores(adapters, u_BD, tokens_BL)
    print(f"Prompt {tokens_BL[0].tolist()} of two people: answers {before.argmax(-1).tolist()}, right {answer_B.tolist()}")
    save(adapters, folder / "all")
    print(f"Saved and loaded: same logits {torch.equal(scores(load(backbone(), folder / 'all'), u_BD, tokens_BL), before)}")
    write_peft_adapter(folder / "ann", adapters, u_BD[:1])
    if find_spec("peft"):
        from peft import PeftModel

        ann = PeftModel.from_pretrained(backbone(), folder / "ann")
        difference = (ann(tokens_BL[:1]).logits[:, -1] - before[:1]).abs().max()
        print(f"One person's adapter in PEFT: logits differ by at most {difference:.1e}")


if __name__ == "__main__":
    with TemporaryDirectory() as name:
        main(Path(name))
