"""Fewer layers and weights in eight bits, against models and numbers that were made by hand."""

from pathlib import Path

import pytest
import torch
from llm_world import saved, tiny_llama, tiny_tokenizer
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel

from lifelora.errors import ConfigError
from lifelora.llm.agreement import Agreement
from lifelora.llm.backbone import Pretrained, load
from lifelora.llm.lighter import Int8Linear, first_layers, in_eight_bits
from lifelora.lora.adapters import Adaptation
from lifelora.lora.coupling import Full
from lifelora.lora.inject import personalise

CPU = torch.device("cpu")
TOKENS = torch.tensor([[5, 6, 7, 8, 9, 10, 11]])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("models") / "tiny")


def logits(model: nn.Module) -> Tensor:
    with torch.no_grad():
        return model(TOKENS).logits


def test_the_first_layers_are_a_model_that_is_cut_by_hand(folder: Path):
    loaded = load(Pretrained(path=str(folder), layers=1), CPU)
    whole = tiny_llama(len(tiny_tokenizer()))
    inner = whole.model
    # transformers' Llama, told in full: embed, the first layer, norm, head.
    x = inner.embed_tokens(TOKENS)
    places = torch.arange(TOKENS.shape[1])[None]
    x = inner.layers[0](x, position_ids=places, position_embeddings=inner.rotary_emb(x, places))
    by_hand = whole.lm_head(inner.norm(x))
    torch.testing.assert_close(logits(loaded.model), by_hand.detach())
    assert not torch.allclose(logits(loaded.model), logits(whole), atol=1e-2)


def test_the_label_says_how_many_of_how_many(folder: Path):
    loaded = load(Pretrained(path=str(folder), layers=1), CPU)
    size = sum(p.numel() for p in loaded.model.parameters())
    assert loaded.label == f"tiny (the first 1 of 2 layers, {size / 1e6:.2f} M parameters, pretrained)"
    both = load(Pretrained(path=str(folder), layers=1, quantization="int8"), CPU)
    assert both.label == f"tiny (the first 1 of 2 layers, {size / 1e6:.2f} M parameters in int8, pretrained)"


def test_all_the_layers_are_the_model(folder: Path):
    assert torch.equal(
        logits(load(Pretrained(path=str(folder), layers=2), CPU).model), logits(load(Pretrained(path=str(folder)), CPU).model)
    )


def test_fewer_layers_share_trees_and_titles_as_all_do(folder: Path):
    loaded = load(Pretrained(path=str(folder), layers=1), CPU)
    assert (loaded.trees, loaded.titles, loaded.early, loaded.head) == ("", "", True, True)


def test_kinds_of_layers_are_cut_with_them():
    model = tiny_llama(20)
    model.config.layer_types = ["full_attention", "full_attention"]
    assert first_layers(model, 1) == 2
    assert model.config.layer_types == ["full_attention"]
    assert model.config.num_hidden_layers == len(model.model.layers) == 1


def test_more_layers_than_there_are(folder: Path):
    with pytest.raises(ConfigError, match=r"backbone\.layers = 3 asks for more layers than the 2 that LlamaForCausalLM has"):
        load(Pretrained(path=str(folder), layers=3), CPU)


def test_int8_is_what_it_says():
    """y = w · (x · W8), by hand: W8 = [127, -64; 0, 127; 0, 0], w = [1/127, 2/127, 1], x = (1, 0.5)."""
    linear = nn.Linear(2, 3).requires_grad_(False)
    linear.weight.copy_(torch.tensor([[1.0, -0.5], [0.0, 2.0], [0.0, 0.0]]))
    linear.bias.copy_(torch.tensor([10.0, 20.0, 30.0]))
    rounded = Int8Linear(linear)
    assert rounded.codes_OI.tolist() == [[127, -64], [0, 127], [0, 0]]
    by_hand = [(127 * 1 - 64 * 0.5) / 127 + 10, 127 * 0.5 * 2 / 127 + 20, 30.0]
    torch.testing.assert_close(rounded(torch.tensor([[1.0, 0.5]])), torch.tensor([by_hand]))


@pytest.mark.parametrize("shape", [(96,), (0, 96), (5, 96), (3, 4, 96)])
def test_int8_is_near_fp32_whatever_the_shape(shape: tuple[int, ...]):
    linear = nn.Linear(96, 40).requires_grad_(False)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    y, exact = Int8Linear(linear)(x), linear(x)
    assert y.shape == exact.shape
    # At most half a step of 1/127 of the row's largest weight, at each of the 96.
    step = float(linear.weight.abs().max()) / 127
    assert bool(((y - exact).abs() <= step / 2 * x.abs().sum(dim=-1, keepdim=True) + 1e-5).all())
    assert not y.numel() or not torch.equal(y, exact)


def test_gradients_are_those_of_the_rounded_weights():
    linear = nn.Linear(24, 12, bias=False)
    rounded = Int8Linear(linear)
    W_OI = rounded.codes_OI.float() * rounded.scale_O[:, None]
    x = torch.randn(5, 24, requires_grad=True)
    dy = torch.randn(5, 12)
    (dx,) = torch.autograd.grad(rounded(x), x, dy)
    torch.testing.assert_close(dx, dy @ W_OI)


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_a_model_in_int8_answers_nearly_as_it_did(folder: Path, dtype: str):
    loaded = load(Pretrained.model_validate({"path": str(folder), "quantization": "int8", "dtype": dtype}), CPU)
    plain = tiny_llama(len(tiny_tokenizer()))
    kinds = {type(module) for module in loaded.model.model.modules()}
    assert Int8Linear in kinds
    assert nn.Linear not in kinds
    assert type(loaded.model.lm_head) is nn.Linear
    apart = (logits(loaded.model).float() - logits(plain)).square().mean().sqrt() / logits(plain).std()
    assert 0 < float(apart) < 0.05
    assert (loaded.trees, loaded.titles) == ("", "")
    assert not Agreement.of(loaded.model).exact


def test_a_lora_below_rounded_layers_learns_as_on_the_rounded_weights():
    """Against the same model whose fp32 weights are the rounded ones: gradients are the same."""
    model = tiny_llama(30)
    in_eight_bits(model)
    same = tiny_llama(30)
    for name, module in model.named_modules():
        if isinstance(module, Int8Linear):
            same.get_submodule(name).weight.data = module.codes_OI.float() * module.scale_O[:, None]
    found = []
    for backbone in (model, same):
        config = Adaptation(coupling=Full.Config(rank=2), targets=("q_proj", "down_proj"))
        adapters = personalise(backbone, config, user_width=3, generator=torch.Generator().manual_seed(0))
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for parameter in adapters.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
        with adapters.scope(torch.ones(1, 3)):
            backbone(TOKENS, labels=TOKENS).loss.backward()
        found.append(torch.cat([p.grad.flatten() for p in adapters.parameters() if p.grad is not None]))
        assert all(layer.A_PI.grad is not None and layer.A_PI.grad.norm() > 0 for _, layer in adapters.layers)
    ours, theirs = found
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)


def test_checkpointing_changes_no_gradient_in_int8():
    found = []
    for checkpointing in (False, True):
        model = tiny_llama(30)
        in_eight_bits(model)
        adapters = personalise(model, Adaptation(targets=("q_proj",)), generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            for _, layer in adapters.layers:
                layer.B_OQ.add_(0.1)
        if checkpointing:
            adapters.enable_checkpointing()
        model.train()
        with adapters.scope(None):
            model(TOKENS, labels=TOKENS).loss.backward()
        found.append([layer.A_PI.grad for _, layer in adapters.layers])
    for plain, again in zip(*found, strict=True):
        torch.testing.assert_close(plain, again)


def test_a_model_without_linear_layers():
    with pytest.raises(ConfigError, match=r"has no linear layers to round; set backbone\.quantization = 'none'"):
        in_eight_bits(GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=1, n_embd=8, vocab_size=20, n_positions=8)))
