"""Trees on 4- and 8-bit backbones of bitsandbytes, which also run on a CPU."""

from pathlib import Path

import pytest
import torch
from families_world import VOCABULARY
from test_trees_exact import alone, asked, gradients, made, personal
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, LlamaConfig, LlamaForCausalLM
from trees_world import prompts

from lifelora.llm.personal import PersonalBatch
from lifelora.llm.trees.ready import ready
from lifelora.lora.coupling import Full
from lifelora.prompts.tree import PromptTrees

pytest.importorskip("bitsandbytes")
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning", "ignore::DeprecationWarning")
LLAMA = LlamaConfig(
    vocab_size=VOCABULARY,
    hidden_size=64,
    intermediate_size=128,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    initializer_range=0.2,
    max_position_embeddings=64,
)


@pytest.mark.parametrize(("bits", "share"), [(4, 1e-4), (8, 0.1)])  # with 8 bits the tokens of a row share what is an outlier
def test_a_tree_equals_its_prompts(bits: int, share: float, tmp_path: Path):
    torch.manual_seed(0)
    LlamaForCausalLM(LLAMA).save_pretrained(tmp_path)
    how = BitsAndBytesConfig(**({"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"} if bits == 4 else {"load_in_8bit": True}))
    model = AutoModelForCausalLM.from_pretrained(
        tmp_path, quantization_config=how, device_map={"": "cpu"}, dtype=torch.float32
    ).eval()
    assert any(parameter.dtype not in (torch.float32, torch.float64) for parameter in model.parameters())
    trees = made("trees of other sizes")
    ready(model)
    with torch.no_grad():
        off = (asked(model, trees) - (theirs := alone(model, trees))).square().mean().sqrt() / theirs.std()
    assert off < share
    lm, batch, adapters = personal(model, Full.Config(rank=4), "prompt")
    assert isinstance(batch.prompts, PromptTrees)
    users_GD = batch.user_BD[batch.prompts.tree_G]
    loss, by_prompts = gradients(lm, PersonalBatch(prompts(batch.prompts), users_GD, batch.label_B), adapters)
    again, by_trees = gradients(lm, batch, adapters)
    assert again == pytest.approx(loss, rel=share)
    for one, other in zip(by_trees, by_prompts, strict=True):
        assert (one - other).norm() < share * other.norm()
