"""Adapters in whole models: the laws of the layer, choosing layers by name, saving and loading."""

import copy
from collections.abc import Callable
from functools import partial

import pytest
import safetensors.torch
import torch
from lora_world import QV, D, adapt, learnt, some_users, tiny_gpt2, tiny_llama, tokens
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lifelora.errors import ArtefactError, ConfigError, ScopeError
from lifelora.lora.adapters import Adaptation, Adapters
from lifelora.lora.coupling import Full, Identity
from lifelora.lora.inject import personalise, select
from lifelora.lora.layer import PersonalLoRALinear

# PEFT asks transformers for a name that transformers 5.23 has deprecated; nothing of ours.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

PLAIN = Identity.Config(rank=4, alpha=8)
RANDOM = Full.Config(rank=4, alpha=8, start="random")


def logits(adapters: Adapters, ids_BL: Tensor, u_BD: Tensor | None, **inputs: Tensor) -> Tensor:
    with torch.no_grad(), adapters.scope(u_BD):
        return adapters.model(ids_BL, **inputs).logits


class TestLaws:
    @pytest.mark.parametrize("config", [PLAIN, RANDOM, Full.Config(rank=4)])
    @pytest.mark.parametrize(("build", "targets"), [(tiny_llama, QV), (tiny_gpt2, ("c_attn", "c_fc"))])
    def test_b_zero_is_the_backbone_exactly(self, build, targets, config):
        backbone = build()
        with torch.no_grad():
            before = backbone(tokens()).logits
        adapters = adapt(backbone, targets, config)
        assert torch.equal(logits(adapters, tokens(), some_users()), before)
        assert not torch.equal(logits(learnt(adapters), tokens(), some_users()), before)

    def test_c_identity_is_plain_lora(self):
        """Full at its start has C = I: with the same A and B it is plain LoRA."""
        plain, personal = learnt(adapt(tiny_llama(), config=PLAIN)), adapt(tiny_llama())
        for (_, ours), (_, theirs) in zip(personal.layers, plain.layers, strict=True):
            ours.load_state_dict(theirs.state_dict())
        expected = logits(plain, tokens(), None)
        torch.testing.assert_close(logits(personal, tokens(), some_users()), expected)
        assert not torch.allclose(logits(learnt(personal), tokens(), some_users()), expected, atol=1e-2)

    def test_plain_lora_is_pefts(self):
        """PEFT's LoRA with our A and B: logits and the gradients of A and B."""
        adapters = learnt(adapt(tiny_llama(), config=PLAIN))
        peft = get_peft_model(tiny_llama(), LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"]))
        theirs = [peft.base_model.model.get_submodule(name) for name, _ in adapters.layers]
        with torch.no_grad():
            for (_, layer), their in zip(adapters.layers, theirs, strict=True):
                their.lora_A["default"].weight.copy_(layer.A_PI)
                their.lora_B["default"].weight.copy_(layer.B_OQ)
        ours = adapters.model(tokens(), labels=tokens())
        expected = peft(tokens(), labels=tokens())
        torch.testing.assert_close(ours.logits, expected.logits, rtol=0, atol=1e-6)
        ours.loss.backward()
        expected.loss.backward()
        for (_, layer), their in zip(adapters.layers, theirs, strict=True):
            torch.testing.assert_close(layer.A_PI.grad, their.lora_A["default"].weight.grad, rtol=0, atol=1e-6)
            torch.testing.assert_close(layer.B_OQ.grad, their.lora_B["default"].weight.grad, rtol=0, atol=1e-6)

    @pytest.mark.parametrize(("build", "targets"), [(tiny_llama, ("all-linear",)), (tiny_gpt2, ("all-linear",))])
    def test_four_users_together_are_each_alone(self, build, targets):
        adapters = learnt(adapt(build(), targets))
        ids_BL, u_BD = tokens(), some_users()
        together = logits(adapters, ids_BL, u_BD)
        alone = torch.cat([logits(adapters, ids_BL[i : i + 1], u_BD[i : i + 1]) for i in range(4)])
        torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)
        same_prompt = logits(adapters, ids_BL[:1].expand(4, -1), u_BD)
        assert (same_prompt[0] - same_prompt[1]).abs().max() > 1e-2  # different users, different answers

    def test_permuting_the_batch_permutes_the_answers(self):
        adapters, order = learnt(adapt(tiny_llama())), [2, 0, 3, 1]
        straight = logits(adapters, tokens(), some_users())
        torch.testing.assert_close(logits(adapters, tokens()[order], some_users()[order]), straight[order])

    def test_left_padded_batch_is_each_alone(self):
        adapters = learnt(adapt(tiny_llama()))
        lengths, ids_BL, u_BD = [3, 7, 5, 1], tokens(), some_users()
        mask_BL = torch.tensor([[0] * (7 - n) + [1] * n for n in lengths])
        positions_BL = (mask_BL.cumsum(1) - 1).clamp(min=0)
        together = logits(adapters, ids_BL * mask_BL, u_BD, attention_mask=mask_BL, position_ids=positions_BL)[:, -1]
        alone = torch.cat([logits(adapters, ids_BL[i : i + 1, 7 - n :], u_BD[i : i + 1])[:, -1] for i, n in enumerate(lengths)])
        torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)

    def test_forward_without_any_user(self):
        adapters = adapt(tiny_llama())
        with pytest.raises(ScopeError, match=r"layer 'model.layers.0.self_attn.q_proj' is personal, but no user"):
            adapters.model(tokens())
        with pytest.raises(ScopeError, match="coupling 'full' is personal, but the batch brings no representation"):
            adapters.scope(None)

    @pytest.mark.parametrize("rows", [1, 2, 3])
    def test_another_batch_size_is_never_broadcast(self, rows):
        adapters = learnt(adapt(tiny_llama()))
        with pytest.raises(ScopeError, match=f"got 4 rows while C\\(u\\) of {rows} is in scope"):
            logits(adapters, tokens(4), some_users(rows))
        with pytest.raises(ScopeError, match=f"got {rows} rows while C\\(u\\) of 4 is in scope"):
            logits(adapters, tokens(rows), some_users(4))

    def test_scopes_do_not_nest(self):
        adapters = adapt(tiny_llama())
        with adapters.scope(some_users()), pytest.raises(ScopeError, match="do not nest"), adapters.scope(some_users()):
            pytest.fail("a second scope was opened")

    def test_an_error_in_forward_is_never_swallowed(self):
        adapters = adapt(tiny_llama())

        def fail(*_: object) -> None:
            raise FloatingPointError("deep inside")

        adapters.layers[1][1].base.register_forward_hook(fail)
        with pytest.raises(FloatingPointError, match="deep inside"):
            logits(adapters, tokens(), some_users())
        with pytest.raises(ScopeError, match="no user"):  # and the scope is closed again
            adapters.model(tokens())


class TestCheckpointing:
    """Law 6: the layers run again during backward, so backward belongs inside the scope."""

    def loss(self, adapters: Adapters) -> Tensor:
        torch.manual_seed(5)  # for dropout
        return adapters.model(tokens(), labels=tokens(), use_cache=False).loss

    @staticmethod
    def rerun(forward: Callable[..., Tensor], reentrant: bool, hidden_BLE: Tensor, **options: object) -> Tensor:
        return checkpoint(partial(forward, **options), hidden_BLE, use_reentrant=reentrant)

    def adapters(self, *, checkpointing: bool, reentrant: bool = False) -> Adapters:
        adapters = learnt(adapt(tiny_llama(), ("all-linear",), dropout=0.2))
        adapters.model.train()
        if checkpointing:
            for block in adapters.model.model.layers:
                block.forward = partial(self.rerun, block.forward, reentrant)
        return adapters

    def test_changes_no_gradient(self):
        grads = []
        for checkpointing in (False, True):
            adapters, calls = self.adapters(checkpointing=checkpointing), []
            adapters.layers[0][1].register_forward_hook(lambda *_, calls=calls: calls.append(1))
            u_BD = some_users().requires_grad_()
            with adapters.scope(u_BD):
                self.loss(adapters).backward()
            assert len(calls) == (2 if checkpointing else 1)  # it did run again
            grads.append([parameter.grad for parameter in adapters.parameters()] + [u_BD.grad])
        assert all(a is not None and a.any() for a in grads[0])
        assert all(torch.equal(a, b) for a, b in zip(*grads, strict=True))

    def test_backward_outside_the_scope(self):
        adapters = self.adapters(checkpointing=True)
        with adapters.scope(some_users()):
            loss = self.loss(adapters)
        with pytest.raises(ScopeError, match="with gradient checkpointing the layer runs again during backward"):
            loss.backward()

    def test_reentrant_checkpointing_is_refused_by_torch(self):
        """Documented in ``Slot``: C(u) has a graph of its own, through which every checkpoint would go backward."""
        adapters = self.adapters(checkpointing=True, reentrant=True)
        adapters.model.enable_input_require_grads()
        with adapters.scope(some_users()):
            loss = self.loss(adapters)
            with pytest.raises(RuntimeError, match="backward through the graph a second time"):
                loss.backward()


def test_trains_in_bf16_on_a_float32_adapter():
    adapters = adapt(tiny_llama().to(torch.bfloat16), ("all-linear",))
    assert {parameter.dtype for parameter in adapters.parameters()} == {torch.float32}
    optimiser = torch.optim.AdamW(adapters.parameters(), lr=1e-2)
    losses = []
    for _ in range(8):
        with adapters.scope(some_users().bfloat16()):
            loss = adapters.model(tokens(), labels=tokens()).loss
            loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.3


class TestInject:
    def test_only_the_adapters_train(self):
        adapters = adapt(tiny_llama())
        trained = {id(p) for p in adapters.model.parameters() if p.requires_grad}
        assert trained == {id(p) for _, layer in adapters.layers for p in (layer.A_PI, layer.B_OQ)}
        assert trained <= {id(p) for p in adapters.parameters()}
        assert all(p.requires_grad for p in adapters.parameters())
        # 4 layers: A 4x32, B 32x4 (q) or 16x4 (v, two key-value heads of 8); Full: LayerNorm 2·6, 6->32->16.
        assert sum(p.numel() for _, layer in adapters.layers for p in (layer.A_PI, layer.B_OQ)) == 4 * 4 * 32 + 2 * (32 + 16) * 4
        assert adapters.coupling.number_of_parameters == 4 * (2 * D + (6 * 32 + 32) + (32 * 16 + 16))

    def test_same_seed_same_adapters(self):
        one, two, other = adapt(tiny_llama()), adapt(tiny_llama()), adapt(tiny_llama(), seed=9)
        assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
        assert not torch.equal(one.layers[0][1].A_PI, other.layers[0][1].A_PI)
        assert not torch.equal(one.layers[0][1].A_PI, one.layers[2][1].A_PI)

    def test_global_randomness_is_left_alone(self):
        torch.manual_seed(0)
        expected = torch.rand(1)
        model = tiny_llama()
        torch.manual_seed(0)
        adapt(model)
        assert torch.equal(torch.rand(1), expected)

    def test_words_patterns_and_all(self):
        llama = tiny_llama()
        per_layer = [
            "self_attn.q_proj",
            "self_attn.k_proj",
            "self_attn.v_proj",
            "self_attn.o_proj",
            "mlp.gate_proj",
            "mlp.up_proj",
            "mlp.down_proj",
        ]
        everything = [f"model.layers.{i}.{name}" for i in (0, 1) for name in per_layer]
        assert select(llama, ("all-linear",)) == everything  # and not lm_head
        assert select(llama, ("v_proj", "q_proj")) == [n for n in everything if n.endswith(("q_proj", "v_proj"))]
        assert select(llama, (r"re:.*layers\.1\..*(up|down)_proj",)) == [
            "model.layers.1.mlp.up_proj",
            "model.layers.1.mlp.down_proj",
        ]
        assert select(llama, ("q_proj", "re:.*q_proj"))[:2] == [
            "model.layers.0.self_attn.q_proj",
            "model.layers.1.self_attn.q_proj",
        ]
        assert select(llama, ("lm_head",)) == ["lm_head"]

    def test_all_linear_of_gpt2_leaves_out_its_tied_head(self):
        names = select(tiny_gpt2(), ("all-linear",))
        assert len(names) == 2 * 4
        assert {name.rpartition(".")[2] for name in names} == {"c_attn", "c_proj", "c_fc"}

    @pytest.mark.parametrize(
        ("targets", "message"),
        [
            (("q_prj",), r"'q_prj' names no linear layer of LlamaForCausalLM; it has down_proj, gate_proj, k_proj"),
            (("q_proj", "mlp"), "'mlp' names no linear layer"),  # a container; and one wrong word among right ones
            (("re:q_proj",), "'re:q_proj' names no linear layer.*for the whole name"),
            (("re:(",), "is no regular expression"),
            ((), "no target was given"),
        ],
    )
    def test_wrong_targets(self, targets, message):
        with pytest.raises(ConfigError, match=message):
            adapt(tiny_llama(), targets)

    def test_rank_wider_than_a_layer_changes_nothing(self):
        model = tiny_llama()
        with pytest.raises(ConfigError, match=r"rank = 20 is wider than layer '.*0.*v_proj' \(16\).*rank <= 16"):
            adapt(model, config=Identity.Config(rank=20))
        assert all(p.requires_grad for p in model.parameters())
        assert not any(isinstance(m, PersonalLoRALinear) for m in model.modules())

    def test_not_twice(self):
        adapters = adapt(tiny_llama())
        with pytest.raises(ConfigError, match="carries adapters already"):
            adapt(adapters.model)

    def test_full_without_representations(self):
        with pytest.raises(ConfigError, match="there is none"):
            personalise(tiny_llama(), Adaptation(coupling=Full.Config(rank=4), targets=("q_proj",)))

    def test_a_model_that_is_one_list_of_linears(self):
        adapters = learnt(
            adapt(nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2)), ("all-linear",), Identity.Config(rank=2))
        )
        assert [name for name, _ in adapters.layers] == ["0", "2"]
        assert adapters.model(torch.randn(3, 8)).shape == (3, 2)

    def test_unload_restores_the_modules(self):
        model = tiny_llama()
        before = dict(model.named_modules())
        with torch.no_grad():
            expected = model(tokens()).logits
        learnt(adapt(model)).unload()
        assert dict(model.named_modules()) == before
        assert torch.equal(model(tokens()).logits, expected)
        adapt(model)  # and it can be adapted anew


class TestState:
    @pytest.mark.parametrize("config", [PLAIN, RANDOM])
    def test_saving_and_loading_changes_nothing(self, tmp_path, config):
        adapters = learnt(adapt(tiny_llama(), config=config))
        safetensors.torch.save_file(adapters.state(), tmp_path / "adapters.safetensors")
        other = adapt(tiny_llama(), config=config, seed=77)
        assert not torch.equal(logits(other, tokens(), some_users()), logits(adapters, tokens(), some_users()))
        other.load_state(safetensors.torch.load_file(tmp_path / "adapters.safetensors"))
        assert torch.equal(logits(other, tokens(), some_users()), logits(adapters, tokens(), some_users()))
        assert all(torch.equal(a, b) for a, b in zip(other.parameters(), adapters.parameters(), strict=True))

    def test_it_holds_all_that_trains_and_nothing_else(self):
        adapters = adapt(tiny_llama())
        state = adapters.state()
        assert sum(t.numel() for t in state.values()) == sum(p.numel() for p in adapters.parameters())
        assert {n for n in state if ".0." in n} == {
            f"base_model.model.model.layers.0.self_attn.{p}.lora_{m}.weight" for p in ("q_proj", "v_proj") for m in ("A", "B")
        }

    def test_another_adapter_is_refused_whole(self):
        adapters = learnt(adapt(tiny_llama()))
        before = copy.deepcopy(adapters.state())
        state = {name: tensor + 1 for name, tensor in before.items()}
        q = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
        wrong = {
            "missing: " + q: {n: t for n, t in state.items() if n != q},
            "unexpected: coupling.more": state | {"coupling.more": torch.ones(1)},
            rf"of another shape: {q} \(came \[8, 32\], here \[4, 32\]\)": state | {q: torch.ones(8, 32)},
        }
        for message, other in wrong.items():
            with pytest.raises(ArtefactError, match=message):
                adapters.load_state(other)
        with pytest.raises(ArtefactError, match=r"missing: base_model.*unexpected: .*another"):
            adapters.load_state({"another": torch.ones(1)})
        assert all(torch.equal(t, before[n]) for n, t in adapters.state().items())
