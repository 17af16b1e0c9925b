"""Models of other families: layers that see users in another order, towers beside the language model, experts, narrow layers."""

import warnings
from pathlib import Path

import pytest
import torch
from lora_world import EVERY, D, adapt, called, learnt, some_users, tiny_llama
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, Gemma3Config
from transformers.utils import logging

from lifelora.errors import ArtefactError, ConfigError, ScopeError
from lifelora.lora.adapters import Adaptation, Adapters
from lifelora.lora.coupling import Full, Identity
from lifelora.lora.export import write_peft_adapter
from lifelora.lora.inject import personalise, select
from lifelora.lora.rehearsal import WeightReadError
from lifelora.lora.saved import load, read_peft, save, start_from
from lifelora.lora.summary import summarise

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

SIZES = {
    "vocab_size": 50,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 64,
    "initializer_range": 0.2,
}
MOE = {"num_experts_per_tok": 2, "moe_intermediate_size": 16}
ROUTED = MOE | {"n_routed_experts": 4, "n_group": 1, "topk_group": 1, "first_k_dense_replace": 1}
SSM = {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_n_groups": 1, "mamba_d_state": 8, "mamba_expand": 2}
FAMILIES: dict[str, dict[str, object]] = {
    "opt": {"ffn_dim": 48, "word_embed_proj_dim": 32},
    "deepseek_v3": ROUTED
    | {
        "num_key_value_heads": 4,
        "q_lora_rank": 8,
        "kv_lora_rank": 8,
        "qk_rope_head_dim": 8,
        "qk_nope_head_dim": 8,
        "v_head_dim": 8,
    },
    "qwen3_moe": MOE | {"num_experts": 4, "mlp_only_layers": [0]},
    "glm4_moe": ROUTED,
    "qwen2_moe": MOE | {"num_experts": 4, "shared_expert_intermediate_size": 16},
    "bamba": SSM | {"attn_layer_indices": [1]},
    "qwen3_5_text": {
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 4,
        "linear_key_head_dim": 8,
        "linear_value_head_dim": 8,
        "layer_types": ["linear_attention", "full_attention"],
    },
}


def tiny(family: str) -> nn.Module:
    logging.set_verbosity_error()
    torch.manual_seed(0)
    config = AutoConfig.for_model(family, **(SIZES | FAMILIES[family]))
    return AutoModelForCausalLM.from_config(config).float().eval()


def ids(batch: int, length: int) -> Tensor:
    return torch.randint(2, 50, (batch, length), generator=torch.Generator().manual_seed(batch * 100 + length))


@torch.no_grad()
def logits(adapters: Adapters, ids_BL: Tensor, u_BD: Tensor | None) -> Tensor:
    with adapters.scope(u_BD):
        return adapters.model(input_ids=ids_BL).logits


class TestFlatTokens:
    """OPT's fc1 gets B·L rows, as does the shared expert of Qwen2-MoE: each user's tokens one after another."""

    @pytest.mark.parametrize("config", EVERY, ids=called)
    def test_a_batch_is_each_alone(self, config):
        adapters = learnt(adapt(tiny("opt"), ("all-linear",), config), std=0.2)
        assert [name for name, layer in adapters.layers if layer.flat] == (
            [f"model.decoder.layers.{i}.fc{j}" for i in (0, 1) for j in (1, 2)] if config.needs_user else []
        )
        for length in (4, 7):  # as many tokens as users, and not
            ids_BL, u_BD = ids(4, length), some_users(4)
            together = logits(adapters, ids_BL, u_BD)
            alone = torch.cat([logits(adapters, ids_BL[i : i + 1], u_BD[i : i + 1]) for i in range(4)])
            torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
        if config.needs_user:
            apart = logits(adapters, ids(1, 5).expand(2, -1), some_users(2))
            assert (apart[0] - apart[1]).abs().max() > 1e-3

    def test_the_shared_expert_of_a_mixture(self):
        adapters = learnt(adapt(tiny("qwen2_moe"), ("q_proj", "up_proj", "down_proj"), Full.Config(rank=4)), std=0.2)
        assert {name.split(".")[-2] for name, layer in adapters.layers if layer.flat} == {"shared_expert"}
        together = logits(adapters, ids(3, 5), some_users(3))
        alone = torch.cat([logits(adapters, ids(3, 5)[i : i + 1], some_users(3)[i : i + 1]) for i in range(3)])
        torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize(("rows", "users"), [(4, 2), (2, 4), (4, 3)])
    def test_other_users_are_never_broadcast(self, rows, users):
        """Even where no other layer is there to count the rows."""
        adapters = adapt(tiny("opt"), ("fc1",), Full.Config(rank=4))
        with pytest.raises(ScopeError, match=f"got {rows} rows while C\\(u\\) of {users} is in scope"):
            logits(adapters, ids(rows, 6), some_users(users))
        adapters.unload()
        with torch.no_grad():
            adapters.model(ids(rows, 6))  # the check went with them

    def test_gradient_checkpointing_finds_the_same(self):
        def gradients(checkpointing: bool) -> list[Tensor]:
            adapters = learnt(adapt(tiny("opt"), ("fc1", "q_proj"), Full.Config(rank=4)), std=0.2)
            adapters.model.config.layerdrop = adapters.model.config.dropout = 0.0
            if checkpointing:
                adapters.enable_checkpointing()
            adapters.model.train()
            for module in adapters.model.modules():
                if hasattr(module, "dropout") and isinstance(module.dropout, float):
                    module.dropout = 0.0
            with adapters.scope(some_users(3)):
                adapters.model(input_ids=ids(3, 5)).logits.square().mean().backward()
            return [p.grad for p in adapters.parameters()]

        for one, other in zip(gradients(False), gradients(True), strict=True):
            torch.testing.assert_close(one, other)


class TestOtherOrders:
    def test_time_first_is_refused_by_name(self):
        config = AutoConfig.for_model("xlnet", vocab_size=50, d_model=32, n_layer=1, n_head=4, d_inner=48)
        model = AutoModelForCausalLM.from_config(config).eval()
        with pytest.raises(ConfigError, match=r"'full' is personal.*time stands first.*users would be mixed: .*ff\.layer_1"):
            personalise(model, Adaptation(coupling=Full.Config(rank=2), targets=("layer_1",)), user_width=D)
        assert not any("lora" in type(module).__module__ for module in model.modules())  # nothing changed
        personalise(model, Adaptation(coupling=Identity.Config(rank=2), targets=("layer_1",)))  # without users there is no harm

    def test_looking_leaves_no_trace(self):
        """Modes, modules and random numbers are as before."""
        model = tiny("opt").train()
        model.model.decoder.layers[0].self_attn_layer_norm.eval()
        modes = {name: module.training for name, module in model.named_modules()}
        torch.manual_seed(5)
        expected = torch.rand(1)
        torch.manual_seed(5)
        adapters = adapt(model, ("q_proj", "fc1"))
        assert torch.equal(torch.rand(1), expected)
        adapters.unload()
        assert {name: module.training for name, module in model.named_modules()} == modes


class TestWeightsThatAreRead:
    def test_they_are_named_before_training(self):
        with pytest.raises(WeightReadError, match=r"reads the weight of layer 'model\.layers\.0\.mamba\.out_proj' directly"):
            adapt(tiny("bamba"), ("all-linear",), Identity.Config(rank=2))
        adapters = learnt(adapt(tiny("bamba"), ("in_proj", "q_proj"), Full.Config(rank=2)))
        adapters.model.train()
        with adapters.scope(some_users(2)):
            adapters.model(input_ids=ids(2, 5)).logits.square().mean().backward()
        assert all(p.grad is not None for p in adapters.parameters())

    def test_of_any_module(self):
        """Where no language model can be asked, at the first forward; and ``hasattr`` goes on saying that there is none."""

        class Reads(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.one, self.two = nn.Linear(4, 4), nn.Linear(4, 4)

            def forward(self, x: Tensor) -> Tensor:
                return nn.functional.linear(self.one(x), self.two.weight)

        adapters = personalise(Reads(), Adaptation(coupling=Identity.Config(rank=2), targets=("one", "two")))
        with pytest.raises(ConfigError, match="reads the weight of layer 'two' directly"):
            adapters.model(torch.randn(2, 4))
        assert not hasattr(adapters.layers[0][1], "weight")


class TestAllLinear:
    def test_layers_narrower_than_the_rank_are_left_out_and_it_is_said(self):
        """Qwen3.5's in_proj_a and in_proj_b have one output for each value head: 4."""
        adapters = adapt(tiny("qwen3_5_text"), ("all-linear",), Identity.Config(rank=6))
        assert adapters.left_out == tuple(f"model.layers.0.linear_attn.in_proj_{part}" for part in "ba")
        assert str(summarise(adapters)).startswith(
            f"{len(adapters.layers)} layers (2 narrower than the rank left out: in_proj_a, in_proj_b); A and B"
        )
        assert min(min(layer.inputs, layer.outputs) for _, layer in adapters.layers) >= 6
        with pytest.raises(ConfigError, match=r"rank = 6 is wider than layer '.*in_proj_a' \(4\)"):
            adapt(tiny("qwen3_5_text"), ("in_proj_a",), Identity.Config(rank=6))
        assert "left out" not in str(summarise(adapt(tiny_llama(), ("all-linear",))))

    def test_a_tower_for_pictures_is_not_the_language_model(self):
        """Both have q_proj and v_proj, and no prompt runs the tower."""
        text = {key: value for key, value in SIZES.items() if key != "initializer_range"}
        model = AutoModelForCausalLM.from_config(
            Gemma3Config(
                text_config=text | {"sliding_window": 8},
                mm_tokens_per_image=4,
                vision_config={
                    "hidden_size": 16,
                    "intermediate_size": 16,
                    "num_hidden_layers": 1,
                    "num_attention_heads": 2,
                    "image_size": 28,
                    "patch_size": 14,
                },
            )
        ).eval()
        towers = [name for name, _ in model.named_modules() if "vision" in name and name.endswith(("q_proj", "v_proj"))]
        assert len(towers) == 2
        for targets, count in ((("q_proj", "v_proj"), 2 * 2), (("all-linear",), 2 * 7)):
            names = select(model, targets)
            assert len(names) == count
            assert not any("vision" in name or "multi_modal" in name for name in names)
        adapters = learnt(adapt(model, ("all-linear",)))
        apart = logits(adapters, ids(1, 5).expand(2, -1), some_users(2))
        assert (apart[0] - apart[1]).abs().max() > 1e-3


class TestPEFT:
    @pytest.mark.parametrize("start", [True, "gaussian", "orthogonal", "mica", "pissa", "pissa_niter_4", "olora"])
    def test_a_start_that_changes_w_is_refused_and_the_others_are_right(self, start, tmp_path: Path):
        """PEFT itself says which is which: those that leave its own base as it was."""
        peft = get_peft_model(
            tiny_llama(), LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"], init_lora_weights=start)
        ).eval()
        base = peft.base_model.model.model.layers[0].self_attn.q_proj.base_layer.weight
        kept = torch.equal(base, tiny_llama().model.layers[0].self_attn.q_proj.weight)
        with torch.no_grad():
            for name, parameter in peft.named_parameters():
                if "lora_" in name:
                    parameter += 0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
        peft.save_pretrained(tmp_path)
        model = tiny_llama()
        if not kept:
            with pytest.raises(ArtefactError, match=rf"init_lora_weights = '{start}'.*another function.*path_initial_model"):
                load(model, tmp_path)
            return
        load(model, tmp_path)
        with torch.no_grad():
            torch.testing.assert_close(model(ids(2, 6)).logits, peft(ids(2, 6)).logits, rtol=1e-5, atol=1e-5)

    @pytest.mark.filterwarnings("ignore:PiSSA changes the base weights:UserWarning")
    def test_a_pissa_that_peft_converted_is_an_ordinary_lora(self, tmp_path: Path):
        """The mend that the error names."""
        peft = get_peft_model(tiny_llama(), LoraConfig(r=4, target_modules=["q_proj"], init_lora_weights="pissa")).eval()
        peft.peft_config["default"].init_lora_weights = True
        peft.save_pretrained(tmp_path / "start")
        peft.peft_config["default"].init_lora_weights = "pissa"
        with torch.no_grad():
            for name, parameter in peft.named_parameters():
                if "lora_" in name:
                    parameter += 0.05
            expected = peft(ids(2, 6)).logits
        peft.save_pretrained(tmp_path / "plain", path_initial_model_for_weight_conversion=str(tmp_path / "start"))
        model = tiny_llama()
        load(model, tmp_path / "plain")
        with torch.no_grad():
            torch.testing.assert_close(model(ids(2, 6)).logits, expected, rtol=1e-4, atol=1e-4)

    @pytest.mark.parametrize("family", ["deepseek_v3", "glm4_moe", "qwen3_moe"])
    def test_an_export_that_peft_would_lose_is_refused(self, family, tmp_path: Path):
        adapters = learnt(adapt(tiny(family), ("all-linear",), Identity.Config(rank=2)), std=0.1)
        with pytest.raises(ConfigError, match=r"would be lost.*stacks its routed experts.*down_proj, gate_proj, up_proj"):
            write_peft_adapter(tmp_path / "peft", adapters)
        assert not (tmp_path / "peft").exists()
        # What lifelora keeps for itself loses nothing, and is never taken for an adapter of PEFT.
        save(adapters, tmp_path / "ours")
        expected = logits(adapters, ids(2, 6), None)
        torch.testing.assert_close(logits(load(tiny(family), tmp_path / "ours"), ids(2, 6), None), expected)
        with pytest.raises(KeyError, match="LIFELORA"):
            PeftModel.from_pretrained(tiny(family), str(tmp_path / "ours"))
        # It is an ordinary LoRA all the same, so a personal one may start from it.
        assert len(read_peft(tmp_path / "ours").A) == len(adapters.layers)
        personal = adapt(tiny(family), ("all-linear",), Full.Config(rank=2))
        start_from(personal, tmp_path / "ours")
        torch.testing.assert_close(logits(personal, ids(2, 6), some_users(2)), expected, rtol=1e-5, atol=1e-5)

    def test_the_attention_of_a_mixture_goes_out(self, tmp_path: Path):
        adapters = learnt(adapt(tiny("qwen3_moe"), ("q_proj", "v_proj"), Full.Config(rank=2)), std=0.1)
        write_peft_adapter(tmp_path, adapters, some_users(1))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.filterwarnings("ignore", category=FutureWarning)
            theirs = PeftModel.from_pretrained(tiny("qwen3_moe"), str(tmp_path)).eval()
        with torch.no_grad():
            got = theirs(ids(2, 6)).logits
        assert (got - logits(adapters, ids(2, 6), some_users(1).expand(2, -1))).abs().max() <= 1e-5
