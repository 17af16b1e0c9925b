"""One user's adapter as a plain LoRA: merged into the weights, and loaded by PEFT itself."""

import json

import pytest
import torch
from jaxtyping import TypeCheckError
from lora_world import adapt, learnt, merged_weight, some_users, tiny_gpt2, tiny_llama, tokens
from peft import PeftModel
from torch import Tensor, nn

from lifelora.errors import ConfigError
from lifelora.lora.adapters import Adapters
from lifelora.lora.coupling import Full, Identity
from lifelora.lora.export import peft_adapter, write_peft_adapter
from lifelora.lora.layer import PersonalLoRALinear
from lifelora.seeds import torch_generator

# PEFT asks transformers for a name that transformers 5.23 has deprecated; nothing of ours.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

CASES = [
    pytest.param(tiny_llama, ("q_proj", "v_proj"), id="llama"),
    pytest.param(tiny_llama, ("all-linear",), id="llama-all"),
    pytest.param(tiny_llama, (r"re:.*layers\.1\..*q_proj",), id="one-layer-of-two"),
    pytest.param(tiny_gpt2, ("c_attn", "c_proj"), id="conv1d"),
]


def logits(adapters: Adapters, u_1D: Tensor | None) -> Tensor:
    with torch.no_grad(), adapters.scope(None if u_1D is None else u_1D.expand(4, -1)):
        return adapters.model(tokens()).logits


@pytest.mark.parametrize(("build", "targets"), CASES)
@pytest.mark.parametrize("config", [Full.Config(rank=4, alpha=6), Identity.Config(rank=4, alpha=6)])
def test_peft_gives_the_same_user_the_same_logits(tmp_path, build, targets, config):
    adapters = learnt(adapt(build(), targets, config), std=0.1)
    u_1D = some_users(1) if adapters.coupling.config.needs_user else None
    write_peft_adapter(tmp_path, adapters, u_1D, base_model="some/backbone")
    loaded = PeftModel.from_pretrained(build(), str(tmp_path))
    wrapped = {name.removeprefix("base_model.model.") for name, m in loaded.named_modules() if hasattr(m, "lora_A")}
    assert wrapped == {name for name, _ in adapters.layers}
    with torch.no_grad():
        theirs = loaded(tokens()).logits
        backbone = build()(tokens()).logits
    assert (theirs - logits(adapters, u_1D)).abs().max() <= 1e-5
    assert (theirs - backbone).abs().max() > 1e-3


@pytest.mark.parametrize(("build", "targets"), CASES)
def test_merged_weights_give_the_same_logits(build, targets):
    adapters = learnt(adapt(build(), targets))
    u_1D = some_users(1)
    expected = logits(adapters, u_1D)
    with torch.no_grad():
        C = adapters.coupling(u_1D)
        for index, (_, layer) in enumerate(adapters.layers):
            layer.base.weight.copy_(merged_weight(layer, C.dense(index)))
    adapters.unload()
    with torch.no_grad():
        assert (adapters.model(tokens()).logits - expected).abs().max() <= 1e-5


def test_merged_weight_by_hand():
    """W + s·B·C·A with W = 0, s = 2: B·C = [[1, 2]]·[[0, 1], [3, 0]] = [[6, 1]]; times A and 2: [[12, 2, 26]]."""
    layer = PersonalLoRALinear(nn.Linear(3, 1), 2, 2, 2.0, generator=torch_generator(0))
    with torch.no_grad():
        layer.base.weight.zero_()
        layer.B_OQ.copy_(torch.tensor([[1.0, 2.0]]))
        layer.A_PI.copy_(torch.tensor([[1.0, 0.0, 2.0], [0.0, 1.0, 1.0]]))
    assert merged_weight(layer, torch.tensor([[0.0, 1.0], [3.0, 0.0]])).tolist() == [[12.0, 2.0, 26.0]]
    assert merged_weight(layer, None).tolist() == [[2.0, 4.0, 8.0]]  # [[1, 2]]·A = [[1, 2, 4]]


def test_files(tmp_path):
    adapters = learnt(adapt(tiny_llama()))
    write_peft_adapter(tmp_path / "ann", adapters, some_users(1), base_model="some/backbone")
    assert sorted(p.name for p in (tmp_path / "ann").iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
    config = json.loads((tmp_path / "ann" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "some/backbone"
    assert (config["peft_type"], config["r"], config["lora_alpha"], config["target_modules"]) == (
        "LORA",
        4,
        8,
        ["q_proj", "v_proj"],
    )
    assert config["fan_in_fan_out"] is False
    assert peft_adapter(adapt(tiny_gpt2(), ("c_fc",)), some_users(1))[0]["fan_in_fan_out"] is True


def test_two_users_share_a_and_differ_in_b():
    adapters = learnt(adapt(tiny_llama()))
    (_, ann), (_, bob) = (peft_adapter(adapters, some_users()[i : i + 1]) for i in (0, 1))
    assert ann.keys() == bob.keys()
    for name, tensor in ann.items():
        assert torch.equal(tensor, bob[name]) == ("lora_A" in name)


def test_exporting_does_not_touch_the_model():
    adapters = learnt(adapt(tiny_llama()))
    _, tensors = peft_adapter(adapters, some_users(1))
    before = logits(adapters, some_users(1))
    for tensor in tensors.values():
        tensor.zero_()
    assert torch.equal(logits(adapters, some_users(1)), before)


def test_for_one_user_only():
    adapters = adapt(tiny_llama())
    with pytest.raises(ConfigError, match=r"exported for one user.*none came"):
        peft_adapter(adapters, None)
    with pytest.raises((ConfigError, TypeCheckError)):  # the latter where the tests check signatures
        peft_adapter(adapters, some_users(2))
