"""On 4- and 8-bit backbones of bitsandbytes, which also run on a CPU."""

import pytest
import torch
from lora_world import EVERY, adapt, called, learnt, some_users, tokens
from transformers import BitsAndBytesConfig, LlamaConfig, LlamaForCausalLM

from lifelora.lora.adapters import Adapters
from lifelora.lora.coupling import Coupling

pytest.importorskip("bitsandbytes")
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning", "ignore::DeprecationWarning")


@pytest.fixture(scope="module", params=[4, 8])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, int]:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=50,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        pad_token_id=0,
        initializer_range=0.2,
    )
    path = tmp_path_factory.mktemp("backbone")
    LlamaForCausalLM(config).save_pretrained(path)
    return str(path), request.param


def quantised(folder: tuple[str, int]) -> LlamaForCausalLM:
    path, bits = folder
    how = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"} if bits == 4 else {"load_in_8bit": True}
    config = BitsAndBytesConfig(**how)
    return LlamaForCausalLM.from_pretrained(path, quantization_config=config, device_map={"": "cpu"}, dtype=torch.float32).eval()


@pytest.mark.parametrize("config", EVERY, ids=called)
def test_every_coupling_trains(config: Coupling.Config, folder: tuple[str, int]):
    """B = 0 is the backbone; each row alone gives what it gives in company; and the loss falls."""
    backbone = quantised(folder)
    with torch.no_grad():
        before = backbone(tokens()).logits
    adapters: Adapters = adapt(backbone, ("all-linear",), config)
    kind = type(adapters.layers[0][1].base).__name__
    assert kind == ("Linear4bit" if folder[1] == 4 else "Linear8bitLt")
    with torch.no_grad(), adapters.scope(some_users()):
        assert torch.equal(adapters.model(tokens()).logits, before)
    learnt(adapters, std=0.05)
    # A deep router, whose norms stand still in a model that is asked, would soon let one expert answer for all users.
    of_layers = [p for _, layer in adapters.layers for p in (layer.A_PI, layer.B_OQ)]
    optimiser = torch.optim.AdamW([{"params": of_layers}, {"params": adapters.coupling.parameters(), "lr": 1e-3}], lr=1e-2)
    losses = []
    for _ in range(6):
        with adapters.scope(some_users()):
            loss = adapters.model(tokens(), labels=tokens()).loss
            loss.backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in adapters.parameters())
        optimiser.step()
        optimiser.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.1
    # bitsandbytes' own kernels round a row otherwise in company than alone (with 8 bits the rows share what counts as an
    # outlier; with 4 it depends on the processor), and layers add that up. So each layer is held against its own base.
    with torch.no_grad():
        inputs = inputs_of_layers(adapters)
        assert len(inputs) == len(adapters.layers)
        for name, layer in adapters.layers:
            x, row = inputs[name], inputs[name][1:2]
            with adapters.scope(some_users()):
                together = layer(x)[1:2]
            with adapters.scope(some_users()[1:2]):
                alone = layer(row)
            with adapters.scope(some_users()[2:3]):
                another = layer(row)
            of_the_base = (layer.base(x)[1:2] - layer.base(row)).abs().max()
            assert (together - alone).abs().max() <= of_the_base + 1e-4, name
            if config.needs_user:
                assert (another - alone).abs().max() > 1e-3, name  # and users do matter


def inputs_of_layers(adapters: Adapters) -> dict[str, torch.Tensor]:
    """What each adapted layer reads when the whole batch is asked."""
    found: dict[str, torch.Tensor] = {}
    handles = [
        layer.register_forward_hook(lambda _, inputs, __, name=name: found.update({name: inputs[0].clone()}))
        for name, layer in adapters.layers
    ]
    with adapters.scope(some_users()):
        adapters.model(tokens())
    for handle in handles:
        handle.remove()
    return found
