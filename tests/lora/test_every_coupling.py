"""The laws of the layer, for every coupling in whole models; what an oracle says is written beside each."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from lora_world import (
    EVERY,
    PERSONAL,
    PLAIN_FOR_ONE,
    adapt,
    called,
    learnt,
    merged_weight,
    some_users,
    tiny_gpt2,
    tiny_llama,
    tokens,
)
from peft import PeftModel
from torch import Tensor, nn

from lifelora.errors import ArtefactError, ConfigError, ScopeError
from lifelora.lora.adapters import Adapters
from lifelora.lora.coupling import Coupling, Experts, Full, Meta
from lifelora.lora.export import write_peft_adapter
from lifelora.lora.saved import load, save

# PEFT asks transformers for a name that transformers 5.23 has deprecated; nothing of ours.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

ALL = ("all-linear",)
every, personal, plain_for_one = (pytest.mark.parametrize("config", c, ids=called) for c in (EVERY, PERSONAL, PLAIN_FOR_ONE))
models = pytest.mark.parametrize("build", [tiny_llama, tiny_gpt2])


def logits(adapters: Adapters, u_BD: Tensor | None, ids_BL: Tensor | None = None, **inputs: Tensor) -> Tensor:
    with torch.no_grad(), adapters.scope(u_BD):
        return adapters.model(tokens() if ids_BL is None else ids_BL, **inputs).logits


@every
@models
def test_b_zero_is_the_backbone_exactly(config: Coupling.Config, build: Callable[[], nn.Module]):
    with torch.no_grad():
        before = build()(tokens()).logits
    adapters = adapt(build(), ALL, config)
    assert torch.equal(logits(adapters, some_users()), before)
    assert not torch.equal(logits(learnt(adapters), some_users()), before)


@plain_for_one
@models
def test_it_is_the_dense_weights_of_each_user(config: Coupling.Config, build: Callable[[], nn.Module]):
    """In float64: W + s·B·C(u)·A written into the weights for one user after another."""
    adapters = learnt(adapt(build().double(), ALL, config))
    ours = logits(adapters, some_users())
    C = adapters.couplings(some_users()) if config.needs_user else adapters.coupling()
    for row in range(4):
        merged = build().double()
        with torch.no_grad():
            for index, (name, layer) in enumerate(adapters.layers):
                weight = merged_weight(layer, None if C is None else C.dense(index, row))
                merged.get_submodule(name).weight.copy_(weight)
            expected = merged(tokens()[row : row + 1]).logits
        torch.testing.assert_close(ours[row : row + 1], expected, rtol=1e-9, atol=1e-9)


@every
def test_a_left_padded_batch_is_each_alone(config: Coupling.Config):
    """Batch of 4 = 4 batches of 1, unpadded: nobody's weights, gate or padding reach another user."""
    adapters = learnt(adapt(tiny_llama(), ALL, config))
    lengths, ids_BL, u_BD = [3, 7, 5, 1], tokens(), some_users()
    mask_BL = torch.tensor([[0] * (7 - n) + [1] * n for n in lengths])
    positions_BL = (mask_BL.cumsum(1) - 1).clamp(min=0)
    together = logits(adapters, u_BD, ids_BL * mask_BL, attention_mask=mask_BL, position_ids=positions_BL)[:, -1]
    alone = torch.cat([logits(adapters, u_BD[i : i + 1], ids_BL[i : i + 1, 7 - n :])[:, -1] for i, n in enumerate(lengths)])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)


@personal
def test_two_users_differ_and_the_order_of_rows_does_not_matter(config: Coupling.Config):
    adapters, order = learnt(adapt(tiny_llama(), ALL, config)), [2, 0, 3, 1]
    straight = logits(adapters, some_users())
    torch.testing.assert_close(logits(adapters, some_users()[order], tokens()[order]), straight[order], rtol=1e-5, atol=1e-5)
    same_prompt = logits(adapters, some_users(), tokens()[:1].expand(4, -1))
    assert (same_prompt[0] - same_prompt[1]).abs().max() > 1e-2


@every
def test_everything_that_trains_gets_a_gradient(config: Coupling.Config):
    adapters = learnt(adapt(tiny_llama(), ALL, config))
    u_BD = some_users().requires_grad_()
    with adapters.scope(u_BD):
        adapters.model(tokens(), labels=tokens()).loss.backward()
    assert all(p.grad is not None and p.grad.any() for p in adapters.parameters())
    assert (u_BD.grad is not None) == config.needs_user  # a representation can learn with the adapters
    frozen = [p for name, p in adapters.model.named_parameters() if not name.endswith(("A_PI", "B_OQ"))]
    assert frozen
    assert all(p.grad is None and not p.requires_grad for p in frozen)


@plain_for_one
@models
def test_gradients_are_those_of_plain_autograd(config: Coupling.Config, build: Callable[[], nn.Module]):
    """The fused backward against y = base(x) + s·B(C(A x)) left to autograd, which a hook on the base brings about."""
    grads = []
    for hooked in (False, True):
        adapters = learnt(adapt(build().double(), ALL, config))
        u_BD = some_users().double().requires_grad_()
        for _, layer in adapters.layers:
            if hooked:
                layer.base.register_forward_hook(lambda *_: None)
            assert (layer._plain_base() is None) == hooked
        with adapters.scope(u_BD):
            adapters.model(tokens(), labels=tokens()).loss.backward()
        grads.append([p.grad for p in adapters.parameters()] + ([u_BD.grad] if config.needs_user else []))
    for ours, theirs in zip(*grads, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


@every
def test_saving_and_loading_changes_no_score(config: Coupling.Config, tmp_path: Path):
    """Not even by a bit; iLoRA's checkpoints lost buffers, others' files were empty."""
    adapters = learnt(adapt(tiny_llama(), ALL, config))
    save(adapters, tmp_path / "saved", "some/backbone")
    assert (tmp_path / "saved/adapter_model.safetensors").stat().st_size > 4 * adapters.parameters()[0].numel()
    again = load(tiny_llama(), tmp_path / "saved")
    assert torch.equal(logits(again, some_users()), logits(adapters, some_users()))
    assert again.adaptation.coupling == config
    assert all(torch.equal(a, b) for a, b in zip(adapters.parameters(), again.parameters(), strict=True))


@every
def test_peft_reads_plain_lora_and_refuses_what_needs_c(config: Coupling.Config, tmp_path: Path):
    adapters = learnt(adapt(tiny_llama(), ALL, config), std=0.1)
    save(adapters, tmp_path / "saved")
    if config.kind != "identity":
        with pytest.raises(KeyError, match="LIFELORA"):
            PeftModel.from_pretrained(tiny_llama(), str(tmp_path / "saved"))
        return
    with torch.no_grad():
        theirs = PeftModel.from_pretrained(tiny_llama(), str(tmp_path / "saved"))(tokens()).logits
    assert (theirs - logits(adapters, None)).abs().max() <= 1e-5


@plain_for_one
@models
def test_any_users_export_gives_the_same_logits_in_peft(config: Coupling.Config, build: Callable[[], nn.Module], tmp_path: Path):
    adapters = learnt(adapt(build(), ALL, config), std=0.1)
    u_1D = some_users()[2:3] if config.needs_user else None
    write_peft_adapter(tmp_path / "one", adapters, u_1D)
    theirs = PeftModel.from_pretrained(build(), str(tmp_path / "one"))
    with torch.no_grad():
        expected = theirs(tokens()).logits
    assert theirs.peft_config["default"].r == config.max_rank
    ours = logits(adapters, None if u_1D is None else u_1D.expand(4, -1))
    assert (ours - expected).abs().max() <= 1e-5


@pytest.mark.parametrize("config", [config for config in EVERY if config not in PLAIN_FOR_ONE], ids=called)
def test_what_depends_on_the_token_is_nobodys_adapter(config: Coupling.Config, tmp_path: Path):
    with pytest.raises(ConfigError, match="differs from token to token"):
        write_peft_adapter(tmp_path / "one", learnt(adapt(tiny_llama(), ALL, config)), some_users(1))
    assert not (tmp_path / "one").exists()


@every
@pytest.mark.parametrize("how", ["greedy", "beams", "no-cache"])
def test_generation_is_the_same_for_each_alone(config: Coupling.Config, how: str):
    """With a KV cache, without one, and with beams, whose rows each need their user (iLoRA's gates were not repeated)."""
    adapters = learnt(adapt(tiny_llama(), ALL, config))
    beams = 3 if how == "beams" else 1
    ids_BL, u_BD = tokens(), some_users()
    options = {
        "max_new_tokens": 5,
        "do_sample": False,
        "num_beams": beams,
        "use_cache": how != "no-cache",
        "pad_token_id": 0,
        "eos_token_id": 49,
        "attention_mask": torch.ones(4, 7, dtype=torch.long),
    }

    def generate(rows: slice) -> Tensor:
        with torch.no_grad(), adapters.scope(u_BD[rows], repeats=beams):
            return adapters.model.generate(ids_BL[rows], **options | {"attention_mask": options["attention_mask"][rows]})

    together = generate(slice(0, 4))
    for row in range(4):
        alone = generate(slice(row, row + 1))[0]
        assert together[row, : len(alone)].tolist() == alone.tolist()
    if config.needs_user and beams > 1:
        with adapters.scope(u_BD), pytest.raises(ScopeError, match="got 12 rows while C.* of 4 .*repeats=beams"):
            adapters.model.generate(ids_BL, **options)


@every
def test_keys_and_values_kept_from_before_are_those_of_the_whole_prompt(config: Coupling.Config):
    adapters, ids_BL, u_BD = learnt(adapt(tiny_llama(), ALL, config)), tokens(), some_users()
    whole = logits(adapters, u_BD)
    with torch.no_grad(), adapters.scope(u_BD):
        prefix = adapters.model(ids_BL[:, :4], use_cache=True)
        suffix = adapters.model(ids_BL[:, 4:], past_key_values=prefix.past_key_values)
    torch.testing.assert_close(suffix.logits, whole[:, 4:], rtol=1e-5, atol=1e-5)


@personal
def test_nobody_another_number_of_users_and_other_userss_couplings(config: Coupling.Config):
    adapters = learnt(adapt(tiny_llama(), ALL, config))
    with pytest.raises(ScopeError, match="no user is in scope"):
        adapters.model(tokens())
    with pytest.raises(ScopeError, match="brings no representation"):
        adapters.scope(None)
    for rows in (1, 3):
        with pytest.raises(ScopeError, match=f"got 4 rows while C\\(u\\) of {rows} is in scope"):
            logits(adapters, some_users(rows))
    other = adapt(tiny_llama(), ("q_proj",), config)
    with pytest.raises(ScopeError, match="2 layers.*this model has 14"), adapters.holding(other.couplings(some_users())):
        pytest.fail("couplings of another model were let in")


@personal
def test_couplings_can_be_kept_and_used_again(config: Coupling.Config):
    adapters = learnt(adapt(tiny_llama(), ALL, config))
    with torch.no_grad():
        kept = adapters.couplings(some_users())
        with adapters.holding(kept):
            again = adapters.model(tokens()).logits
    assert torch.equal(again, logits(adapters, some_users()))


def test_the_coupling_is_in_the_mode_of_the_model():
    """It is no submodule of the model, so model.eval() alone would leave the dropout of gates on."""
    adapters = learnt(adapt(tiny_llama(), ALL, Meta.Config(rank=2, loras=3, gate_dropout=0.5)))
    assert torch.equal(logits(adapters, some_users()), logits(adapters, some_users()))
    adapters.model.train()
    assert not torch.equal(logits(adapters, some_users()), logits(adapters, some_users()))
    adapters.model.eval()
    assert torch.equal(logits(adapters, some_users()), logits(adapters, some_users()))


class TestCheckpointing:
    def gradients(self, config: Coupling.Config, *, checkpointing: bool, inside: bool = True) -> list[Tensor]:
        adapters = learnt(adapt(tiny_llama(), ALL, config, dropout=0.2))
        if checkpointing:
            adapters.enable_checkpointing()
        adapters.model.train()
        torch.manual_seed(5)
        with adapters.scope(some_users()):
            loss = adapters.model(tokens(), labels=tokens(), use_cache=False).loss
            if inside:
                loss.backward()
        if not inside:
            loss.backward()
        return [parameter.grad for parameter in adapters.parameters()]

    @every
    def test_changes_no_gradient_in_the_scope_or_after_it(self, config: Coupling.Config):
        expected = self.gradients(config, checkpointing=False)
        assert all(grad is not None and grad.any() for grad in expected)
        for inside in (True, False):
            ours = self.gradients(config, checkpointing=True, inside=inside)
            assert all(torch.equal(a, b) for a, b in zip(expected, ours, strict=True))

    @personal
    def test_two_batches_before_one_backward(self, config: Coupling.Config):
        """Run again, each batch finds its own users: not the other batch's, nor nobody."""
        grads = []
        for checkpointing in (False, True):
            adapters = learnt(adapt(tiny_llama(), ALL, config))
            if checkpointing:
                adapters.enable_checkpointing()
            adapters.model.train()
            torch.manual_seed(5)  # the dropout of gates
            losses = []
            for u_BD in (some_users(), some_users().flip(0)):
                with adapters.scope(u_BD):
                    losses.append(adapters.model(tokens(), labels=tokens(), use_cache=False).loss)
            with adapters.scope(some_users()[[1, 1, 2, 2]]):  # a third batch, whose users must not be found
                sum(losses).backward()
            grads.append([parameter.grad for parameter in adapters.parameters()])
        assert all(torch.equal(a, b) for a, b in zip(*grads, strict=True))

    def test_a_model_without_checkpointing_says_how(self):
        adapters = adapt(nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8)), ALL)
        with pytest.raises(ConfigError, match=r"Sequential cannot turn on.*adapters\.slot\.recalled"):
            adapters.enable_checkpointing()


@every
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_backbones(config: Coupling.Config, dtype: torch.dtype):
    """Adapters stay in fp32; the answers are those of fp32 up to the rounding of the backbone itself."""
    exact = learnt(adapt(tiny_llama(), ALL, config), std=0.1)
    half = learnt(adapt(tiny_llama().to(dtype), ALL, config), std=0.1)
    assert {p.dtype for p in half.parameters()} == {torch.float32}
    ours = logits(half, some_users())
    with torch.no_grad():
        rounding = (tiny_llama().to(dtype)(tokens()).logits - tiny_llama()(tokens()).logits).abs().max()
    assert ours.dtype == dtype
    assert (ours - logits(exact, some_users())).abs().max() < 6 * rounding
    with half.scope(some_users()):
        half.model(tokens(), labels=tokens()).loss.backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 and p.grad.isfinite().all() for p in half.parameters())


@every
def test_autocast_computes_like_a_half_precision_backbone(config: Coupling.Config):
    adapters = learnt(adapt(tiny_llama(), ALL, config), std=0.1)
    exact = logits(adapters, some_users())
    with torch.autocast("cpu", torch.bfloat16):
        half = logits(adapters, some_users())
        with adapters.scope(some_users()):
            adapters.model(tokens(), labels=tokens()).loss.backward()
    assert half.dtype == torch.bfloat16
    assert (half - exact).abs().max() < 0.05 * exact.abs().max()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in adapters.parameters())


def test_coupling_alone_learns_on_a_and_b_as_they_are():
    """ReLLaX's second stage; A gets no gradient, and nothing of x has to be kept for one."""
    from lifelora.lora.adapters import Adaptation
    from lifelora.lora.inject import personalise

    config = Adaptation(coupling=Full.Config(rank=4), targets=ALL, dropout=0.0, train="coupling")
    adapters = personalise(tiny_llama(), config, user_width=6)
    with pytest.raises(ConfigError, match="B is zero, so nothing could be learnt.*start_from"):
        adapters.parameters()
    with torch.no_grad():
        adapters.layers[0][1].B_OQ.fill_(0.1)
    learnt(adapters)
    before = {name: tensor.clone() for name, tensor in adapters.state().items()}
    optimiser = torch.optim.AdamW([p for p in adapters.parameters() if p.requires_grad], lr=1e-2)
    losses = []
    for _ in range(10):
        with adapters.scope(some_users()):
            loss = adapters.model(tokens(), labels=tokens()).loss
            loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    changed = {name for name, tensor in adapters.state().items() if not torch.equal(tensor, before[name])}
    assert changed == {name for name in before if name.startswith("coupling.")}
    with pytest.raises(ConfigError, match="leaves nothing to learn"):
        personalise(tiny_llama(), Adaptation(train="coupling")).parameters()


def test_a_damaged_or_foreign_folder(tmp_path: Path):
    adapters = learnt(adapt(tiny_llama(), ALL, Experts.Config(rank=4, experts=2)))
    save(adapters, tmp_path / "saved")
    with pytest.raises(ArtefactError, match="missing: base_model"):
        other = tiny_llama()
        other.model.layers[0].self_attn.q_proj = nn.Linear(32, 32)
        path = tmp_path / "saved/adapter_config.json"
        path.write_text(path.read_text().replace('"all-linear"', '"all-linear", "lm_head"'))
        load(other, tmp_path / "saved")
    assert type(other.lm_head) is nn.Linear  # as it was: nothing is left half done
    (tmp_path / "saved/adapter_model.safetensors").write_bytes(b"torn")
    with pytest.raises(ArtefactError, match="is damaged"):
        load(tiny_llama(), tmp_path / "saved")
    with pytest.raises(ArtefactError, match="holds no adapter"):
        load(tiny_llama(), tmp_path)
    path.write_text('{"peft_type": "IA3"}')
    (tmp_path / "saved/adapter_model.safetensors").unlink()
    (tmp_path / "saved/adapter_model.bin").write_bytes(b"")
    with pytest.raises(ArtefactError, match="a pickle, which is never read"):
        load(tiny_llama(), tmp_path / "saved")


def test_two_models_in_two_threads_do_not_mix_users():
    """iLoRA keeps the gates of all requests of a process in one list."""
    from concurrent.futures import ThreadPoolExecutor

    adapters = [learnt(adapt(tiny_llama(), ALL, Full.Config(rank=4)), seed=seed) for seed in (2, 3)]
    expected = [logits(one, some_users().roll(turn, 0)) for turn, one in enumerate(adapters)]

    def ask(turn: int) -> bool:
        return all(torch.equal(logits(adapters[turn], some_users().roll(turn, 0)), expected[turn]) for _ in range(15))

    with ThreadPoolExecutor(2) as threads:
        assert list(threads.map(ask, (0, 1))) == [True, True]


def test_one_model_refuses_a_second_request_while_one_is_in_scope():
    """From another thread, too: it is an error with a name, never another user's answer."""
    from concurrent.futures import ThreadPoolExecutor

    adapters = learnt(adapt(tiny_llama(), ALL, Full.Config(rank=4)))
    with adapters.scope(some_users()), ThreadPoolExecutor(1) as thread:
        second = thread.submit(logits, adapters, some_users(1), tokens(1))
        with pytest.raises(ScopeError, match="scopes do not nest"):
            second.result()
