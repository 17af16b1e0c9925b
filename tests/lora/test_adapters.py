"""Several sets of adapters on one model: each is what it is on a model of its own, and without any the model is the backbone."""

from collections.abc import Callable
from contextlib import ExitStack

import pytest
import torch
from lora_world import EVERY, QV, D, adapt, called, learnt, some_users, tiny_gpt2, tiny_llama, tokens
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM

from lifelora.errors import ConfigError, ScopeError
from lifelora.lora.adapters import Adapters, in_place
from lifelora.lora.coupling import Coupling, Experts, Full, Identity, Static
from lifelora.lora.layer import PersonalLoRALinear
from lifelora.seeds import generator

PLAIN, FULL = Identity.Config(rank=4, alpha=8), Full.Config(rank=4, alpha=8)


def tiny_opt() -> nn.Module:
    """Its fc1 gets the tokens of all users in one row, so the slot watches the model."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        "opt",
        vocab_size=50,
        hidden_size=32,
        ffn_dim=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        word_embed_proj_dim=32,
        max_position_embeddings=64,
        dropout=0.0,
        pad_token_id=0,
    )
    return AutoModelForCausalLM.from_config(config).eval()


FAMILIES: dict[str, tuple[Callable[[], nn.Module], tuple[str, ...], tuple[str, ...]]] = {
    "llama": (tiny_llama, QV, ("q_proj", "down_proj")),
    "gpt2": (tiny_gpt2, ("c_attn",), ("c_attn", "c_fc")),
    "opt": (tiny_opt, ("q_proj", "fc1"), ("fc1", "v_proj")),
}
families = pytest.mark.parametrize("family", FAMILIES)


def two_on(
    model: nn.Module, other_model: nn.Module, family: str = "llama", configs: tuple[Coupling.Config, ...] = (FULL, PLAIN)
) -> tuple[Adapters, Adapters]:
    """Two sets that have learnt something, on one model or on two; both are out."""
    made = []
    for place, (on, targets, config) in enumerate(zip((model, other_model), FAMILIES[family][1:], configs, strict=True)):
        made.append(learnt(adapt(on, targets, config, seed=place), seed=10 + place))
        made[-1].unload()
    return made[0], made[1]


@torch.no_grad()
def logits(adapters: Adapters) -> Tensor:
    with adapters.loaded(), adapters.scope(some_users()):
        return adapters.model(tokens()).logits


@torch.no_grad()
def backbone_logits(model: nn.Module) -> Tensor:
    return model(tokens()).logits


class TestLaws:
    @families
    def test_two_sets_on_one_model_are_each_on_its_own_in_any_interleaving(self, family):
        build = FAMILIES[family][0]
        model = build()
        shared, apart = two_on(model, model, family), two_on(build(), build(), family)
        alone, backbone = [logits(adapters) for adapters in apart], backbone_logits(build())
        assert not torch.equal(alone[0], alone[1])
        with ExitStack() as stack:
            for act, which in generator(5, "interleaving").integers(0, (4, 2), (60, 2)).tolist():
                if act == 0:
                    assert torch.equal(logits(shared[which]), alone[which])
                elif act == 1:
                    stack.enter_context(shared[which].loaded())
                elif act == 2:
                    shared[which].load()
                else:
                    for adapters in shared:
                        adapters.unload()
                    assert torch.equal(backbone_logits(model), backbone)
        for adapters in shared:
            adapters.unload()
        assert torch.equal(backbone_logits(model), backbone)

    @pytest.mark.parametrize("config", EVERY, ids=called)
    def test_of_every_coupling(self, config):
        model = tiny_llama()
        ours, _ = two_on(model, model, configs=(config, FULL))
        alone, _ = two_on(tiny_llama(), tiny_llama(), configs=(config, FULL))
        assert torch.equal(logits(ours), logits(alone))

    @families
    def test_a_model_that_is_unloaded_is_the_backbone(self, family):
        build = FAMILIES[family][0]
        model, modules = build(), dict(build().named_modules())
        own = dict(model.named_modules())
        adapters = learnt(adapt(model, FAMILIES[family][1], FULL))
        adapters.unload()
        assert dict(model.named_modules()) == own
        assert list(own) == list(modules)
        assert not model._forward_pre_hooks
        assert torch.equal(backbone_logits(model), backbone_logits(build()))

    def test_names_and_their_order_stay(self):
        """What a file of trained weights is read by, and the order in which an optimiser has them."""
        adapters = adapt(tiny_llama())
        before = {name: id(p) for name, p in adapters.model.named_parameters()}
        state, own = list(adapters.model.state_dict()), list(adapters.state())
        adapters.unload()
        assert not any("A_PI" in name for name, _ in adapters.model.named_parameters())
        assert list(adapters.state()) == own
        adapters.load()
        assert {name: id(p) for name, p in adapters.model.named_parameters()} == before
        assert list(adapters.model.state_dict()) == state


def steps(adapters: Adapters, optimizer: torch.optim.Optimizer) -> float:
    with adapters.loaded(), adapters.scope(some_users()):
        loss = adapters.model(tokens()).logits.square().mean()
        loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    return loss.item()


@families
def test_training_in_turn_is_training_alone(family):
    build = FAMILIES[family][0]
    model = build()
    losses = []
    for pair in (two_on(model, model, family), two_on(build(), build(), family)):
        optimizers = [torch.optim.AdamW(adapters.parameters(), lr=1e-2) for adapters in pair]
        losses.append([steps(pair[turn], optimizers[turn]) for turn in (0, 1, 1, 0, 1, 0)])
    assert losses[0] == losses[1]
    assert losses[0][0] != losses[0][3]


class TestOneAtATime:
    def test_load_takes_out_what_is_there_and_is_idempotent(self):
        model = tiny_llama()
        one, other = two_on(model, model)
        for adapters in (one, one, other, one):
            adapters.load()
            assert in_place(model) is adapters
            assert [one.in_place, other.in_place] == [adapters is one, adapters is other]
            carried = [m for m in model.modules() if isinstance(m, PersonalLoRALinear)]
            assert carried == [layer for _, layer in adapters.layers]
        other.unload()  # is out already
        assert one.in_place
        one.unload()
        one.unload()
        assert in_place(model) is None

    def test_loaded_gives_back_what_was_there(self):
        model = tiny_llama()
        one, other = two_on(model, model)
        with one.loaded():
            with other.loaded(), one.loaded(), one.loaded():
                assert one.in_place
            assert one.in_place
            with pytest.raises(ZeroDivisionError), other.loaded():
                1 / 0  # noqa: B018
            assert one.in_place
        assert in_place(model) is None

    def test_a_second_set_is_made_when_the_first_is_out(self):
        model = tiny_llama()
        first = learnt(adapt(model))
        with pytest.raises(ConfigError, match=r"carries adapters already; take them out first \(adapters.unload\(\)"):
            adapt(model)
        assert first.in_place
        before = logits(first)
        first.unload()
        second = adapt(model, ("down_proj",))
        assert second.in_place
        assert torch.equal(logits(first), before)
        assert second.in_place

    @pytest.mark.parametrize("config", [PLAIN, Static.Config(rank=4), FULL], ids=called)
    def test_a_set_that_is_out_has_no_scope(self, config):
        """Else a forward would be the backbone's, or another user's."""
        model = tiny_llama()
        one, other = two_on(model, model, configs=(config, FULL))
        with pytest.raises(ScopeError, match=r"not in the model now \(it carries none\)"), one.scope(some_users()):
            pass
        with (
            other.loaded(),
            pytest.raises(ScopeError, match=r"not in the model now \(it carries another set\)"),
            one.scope(some_users()),
        ):
            pass

    def test_nothing_is_taken_out_of_an_open_scope(self):
        model = tiny_llama()
        one, other = two_on(model, model, configs=(FULL, Experts.Config(rank=4, experts=2)))
        expected = logits(one)
        with one.loaded(), one.scope(some_users()):
            for act in (one.unload, other.load):
                with pytest.raises(ScopeError, match="a scope of these adapters is open"):
                    act()
            with torch.no_grad():
                assert torch.equal(model(tokens()).logits, expected)

    def test_the_watch_over_flat_rows_goes_and_comes_with_its_set(self):
        model = tiny_opt()
        one, other = two_on(model, model, "opt", (FULL, FULL))
        assert not model._forward_pre_hooks
        for adapters in (one, other, one):
            adapters.load()
            assert len(model._forward_pre_hooks) == 1
            with adapters.scope(some_users(3)), pytest.raises(ScopeError, match="got 4 rows while C\\(u\\) of 3"):
                model(tokens(4))


class TestWhatHappensToTheModelMeanwhile:
    def test_layers_take_over_its_mode(self):
        adapters = learnt(adapt(tiny_llama(), dropout=0.5))
        quiet = logits(adapters)
        adapters.unload()
        adapters.model.train()
        assert not torch.equal(logits(adapters), quiet)
        adapters.model.eval()
        assert torch.equal(logits(adapters), quiet)

    @pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a second device")
    def test_and_its_device(self):
        adapters = learnt(adapt(tiny_llama()))
        parameters = adapters.parameters()
        adapters.unload()
        adapters.model.to("cuda")
        adapters.load()
        assert {p.device.type for p in parameters} == {"cuda"}
        assert all(a is b for a, b in zip(parameters, adapters.parameters(), strict=True))

    def test_but_never_to_where_no_weights_are(self):
        adapters = learnt(adapt(tiny_llama()))
        before = [p.clone() for p in adapters.parameters()]
        adapters.unload()
        adapters.model.to("meta")
        adapters.load()
        assert all(torch.equal(p, was) for p, was in zip(adapters.parameters(), before, strict=True))


def checkpoints(model: nn.Module) -> bool:
    return any(getattr(module, "gradient_checkpointing", False) for module in model.modules())


class TestCheckpointing:
    def gradients(self, adapters: Adapters) -> list[Tensor]:
        with adapters.loaded():
            adapters.model.train()
            with adapters.scope(some_users()):
                adapters.model(tokens(), use_cache=False).logits.square().mean().backward()
            adapters.model.eval()
        found = [p.grad.clone() for p in adapters.parameters()]
        adapters.model.zero_grad()
        for parameter in adapters.parameters():
            parameter.grad = None
        return found

    def test_it_goes_and_comes_with_its_set(self):
        model = tiny_llama()
        one, other = two_on(model, model)
        expected = [self.gradients(one), self.gradients(other)]
        one.load()
        one.enable_checkpointing()
        for adapters, on in ((one, True), (other, False), (one, True)):
            adapters.load()
            assert checkpoints(model) is on
        one.unload()
        assert not checkpoints(model)
        other.enable_checkpointing()  # while it is out
        assert not checkpoints(model)
        for adapters, was in zip((one, other), expected, strict=True):
            for gradient, before in zip(self.gradients(adapters), was, strict=True):
                torch.testing.assert_close(gradient, before)

    def test_running_again_finds_the_own_users(self):
        """Both checkpoint; a backward that comes after the scope still has that set's C(u)."""
        model = tiny_llama()
        one, other = two_on(model, model, configs=(FULL, FULL))
        expected = self.gradients(one)
        for adapters in (one, other):
            adapters.enable_checkpointing()
        self.gradients(other)
        with one.loaded():
            model.train()
            with one.scope(some_users()):
                loss = model(tokens(), use_cache=False).logits.square().mean()
            loss.backward()
        for parameter, before in zip(one.parameters(), expected, strict=True):
            torch.testing.assert_close(parameter.grad, before)


def test_a_user_of_another_width_is_the_sets_own_business():
    model = tiny_llama()
    adapt(model).unload()
    narrow = adapt(model, config=Static.Config(rank=2))
    assert narrow.in_place
    assert narrow.user_width == D
