"""An ordinary LoRA as the start of a personal one, made by PEFT itself; and what is refused."""

import json
import re
from pathlib import Path

import pytest
import torch
from lora_world import EVERY, adapt, called, learnt, some_users, tiny_gpt2, tiny_llama, tokens
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor

from lifelora.errors import ArtefactError, ConfigError
from lifelora.lora.adapters import Adapters
from lifelora.lora.coupling import Coupling, Experts, Full, Identity, Meta
from lifelora.lora.saved import load, read_peft, start_from

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

STARTS_AS_IT = [c for c in EVERY if c.kind != "experts" and getattr(c, "start", "") != "random"]


def saved_by_peft(folder: Path, model: torch.nn.Module | None = None, **options: object) -> PeftModel:
    """A LoRA of PEFT that has learnt something, and its folder."""
    config = LoraConfig(**{"r": 4, "lora_alpha": 6, "target_modules": ["q_proj", "v_proj"], **options})
    peft = get_peft_model(tiny_llama() if model is None else model, config).eval()
    torch.manual_seed(3)
    for name, parameter in peft.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    peft.save_pretrained(folder)
    return peft


def logits(adapters: Adapters, u_BD: Tensor | None) -> Tensor:
    with torch.no_grad(), adapters.scope(u_BD):
        return adapters.model(tokens()).logits


@pytest.mark.parametrize("config", STARTS_AS_IT, ids=called)
@pytest.mark.parametrize("rslora", [False, True])
def test_whichever_user_is_in_scope_it_starts_as_that_lora(config: Coupling.Config, rslora: bool, tmp_path: Path):
    """Also where it becomes several A or B, and though its alpha is another: s·B is what counts."""
    peft = saved_by_peft(tmp_path, r=config.rank, use_rslora=rslora)
    adapters = adapt(tiny_llama(), config=config)
    start_from(adapters, tmp_path)
    with torch.no_grad():
        expected = peft(tokens()).logits
        assert (expected - tiny_llama()(tokens()).logits).abs().max() > 1e-2
    torch.testing.assert_close(logits(adapters, some_users()), expected, rtol=1e-5, atol=1e-5)


def test_experts_start_as_it_where_all_weigh_the_same(tmp_path: Path):
    peft = saved_by_peft(tmp_path)
    adapters = adapt(tiny_llama(), config=Experts.Config(rank=4, experts=2, alpha=32))
    start_from(adapters, tmp_path)
    with torch.no_grad():
        adapters.coupling.gate.W_SXD.zero_()
        torch.testing.assert_close(logits(adapters, some_users()), peft(tokens()).logits, rtol=1e-5, atol=1e-5)


def test_conv1d(tmp_path: Path):
    peft = saved_by_peft(tmp_path, tiny_gpt2(), target_modules=["c_attn"], fan_in_fan_out=True)
    adapters = adapt(tiny_gpt2(), ("c_attn",), Full.Config(rank=4))
    start_from(adapters, tmp_path)
    with torch.no_grad():
        torch.testing.assert_close(logits(adapters, some_users()), peft(tokens()).logits, rtol=1e-5, atol=1e-5)


def test_a_peft_folder_loads_as_plain_lora(tmp_path: Path):
    peft = saved_by_peft(tmp_path, lora_dropout=0.1)
    adapters = load(tiny_llama(), tmp_path)
    assert adapters.adaptation.coupling == Identity.Config(rank=4, alpha=6)
    assert adapters.adaptation.dropout == 0.1
    with torch.no_grad():
        torch.testing.assert_close(logits(adapters, None), peft(tokens()).logits, rtol=1e-5, atol=1e-5)


def test_what_was_learnt_from_it_goes_out_again(tmp_path: Path):
    """In, trained on, and out as a user's LoRA: PEFT agrees with us at both ends."""
    from lifelora.lora.export import write_peft_adapter

    saved_by_peft(tmp_path / "in")
    adapters = adapt(tiny_llama(), config=Meta.Config(rank=4, loras=2))
    start_from(adapters, tmp_path / "in")
    learnt(adapters, std=0.05)
    write_peft_adapter(tmp_path / "out", adapters, some_users()[:1])
    with torch.no_grad():
        theirs = PeftModel.from_pretrained(tiny_llama(), str(tmp_path / "out"))(tokens()).logits
    assert (theirs - logits(adapters, some_users()[:1].expand(4, -1))).abs().max() <= 1e-5


class TestRefused:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"use_dora": True}, "sets use_dora, which an ordinary LoRA"),
            ({"modules_to_save": ["lm_head"]}, "sets modules_to_save"),
            ({"rank_pattern": {"q_proj": 2}}, "sets rank_pattern"),
            ({"bias": "lora_only"}, "sets bias"),
        ],
    )
    def test_what_is_no_ordinary_lora(self, options: dict[str, object], message: str, tmp_path: Path):
        saved_by_peft(tmp_path, **options)
        with pytest.raises(ArtefactError, match=message):
            read_peft(tmp_path)

    @pytest.mark.parametrize(
        ("options", "config", "message"),
        [
            ({"r": 8}, Full.Config(rank=4), r"has rank 8, the coupling 4; set coupling.rank = 8"),
            ({"target_modules": ["q_proj"]}, Full.Config(rank=4), r"other layers: only there none; only here .*v_proj"),
            ({"target_modules": ["q_proj", "v_proj", "o_proj"]}, Full.Config(rank=4), r"only there .*o_proj"),
        ],
    )
    def test_what_does_not_fit_changes_nothing(
        self, options: dict[str, object], config: Full.Config, message: str, tmp_path: Path
    ):
        saved_by_peft(tmp_path, **options)
        adapters = adapt(tiny_llama(), config=config)
        before = {name: tensor.clone() for name, tensor in adapters.state().items()}
        with pytest.raises(ConfigError, match=message):
            start_from(adapters, tmp_path)
        assert all(torch.equal(tensor, before[name]) for name, tensor in adapters.state().items())

    def test_another_backbone(self, tmp_path: Path):
        from safetensors.torch import load_file, save_file

        saved_by_peft(tmp_path)
        tensors = load_file(tmp_path / "adapter_model.safetensors")
        name = next(name for name in tensors if "lora_A" in name)
        save_file(tensors | {name: torch.zeros(4, 99)}, tmp_path / "adapter_model.safetensors")
        with pytest.raises(ConfigError, match="another backbone: its layer .* has 99 inputs"):
            start_from(adapt(tiny_llama()), tmp_path)
        save_file({n: t for n, t in tensors.items() if n != name}, tmp_path / "adapter_model.safetensors")
        with pytest.raises(ArtefactError, match="does not hold an A and a B of rank 4"):
            read_peft(tmp_path)
        save_file(tensors | {"base_model.model.lm_head.weight": torch.zeros(2, 2)}, tmp_path / "adapter_model.safetensors")
        with pytest.raises(ArtefactError, match="holds 'base_model.model.lm_head.weight', which is neither lora_A"):
            read_peft(tmp_path)

    def test_a_personal_adapter_is_no_ordinary_lora(self, tmp_path: Path):
        from lifelora.lora.saved import save

        save(adapt(tiny_llama()), tmp_path)
        with pytest.raises(ArtefactError, match="of kind 'LIFELORA'; only an ordinary LoRA"):
            read_peft(tmp_path)

    def test_no_table(self, tmp_path: Path):
        saved_by_peft(tmp_path)
        (tmp_path / "adapter_config.json").write_text(json.dumps([1]))
        with pytest.raises(ArtefactError, match="does not hold a JSON object"):
            read_peft(tmp_path)

    @pytest.mark.parametrize(
        ("key", "value", "message"),
        [
            ("lora_alpha", "six", "lora_alpha = 'six'"),
            ("lora_alpha", [[]], "lora_alpha"),
            ("lora_alpha", True, "lora_alpha = True"),
            ("lora_alpha", float("nan"), "lora_alpha = nan"),
            ("lora_alpha", -1e308, "lora_alpha"),
            ("lora_alpha", 0, "lora_alpha = 0"),
            ("lora_alpha", 10**400, "lora_alpha"),
            ("lora_dropout", "0.1", "lora_dropout"),
            ("lora_dropout", 1.5, "lora_dropout = 1.5"),
            ("r", "4", "r = '4'"),
            ("r", True, "r = True"),
            ("r", None, "r = None"),
            ("r", [4], "r = "),
        ],
    )
    def test_settings_of_another_kind(self, key: str, value: object, message: str, tmp_path: Path):
        saved_by_peft(tmp_path)
        path = tmp_path / "adapter_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
        for read in (read_peft, lambda folder: load(tiny_llama(), folder)):
            with pytest.raises(ArtefactError, match=re.escape(message)):
                read(tmp_path)

    @pytest.mark.parametrize("written", [b"[" * 100_000, b'{"r": ' + b"9" * 5000 + b"}", b"\xff\xfe", b"", b'{"r": 4'])
    def test_a_damaged_configuration(self, written: bytes, tmp_path: Path):
        saved_by_peft(tmp_path)
        (tmp_path / "adapter_config.json").write_bytes(written)
        with pytest.raises(ArtefactError, match="adapter_config.json is damaged"):
            read_peft(tmp_path)

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), "integers"])
    def test_weights_that_are_no_numbers(self, value: float | str, tmp_path: Path):
        from safetensors.torch import load_file, save_file

        saved_by_peft(tmp_path)
        tensors = load_file(tmp_path / "adapter_model.safetensors")
        name = next(name for name in tensors if "lora_B" in name)
        if value == "integers":
            tensors[name] = tensors[name].long()
        else:
            tensors[name][0, 0] = value
        save_file(tensors, tmp_path / "adapter_model.safetensors")
        with pytest.raises(ArtefactError, match=f"no finite numbers .* in 1 of {len(tensors)} tensors, .*{re.escape(name)}"):
            load(tiny_llama(), tmp_path)

    def test_damaged_weights(self, tmp_path: Path):
        saved_by_peft(tmp_path)
        path = tmp_path / "adapter_model.safetensors"
        whole = path.read_bytes()
        for cut in (0, 7, 100, len(whole) - 1):
            path.write_bytes(whole[:cut])
            with pytest.raises(ArtefactError, match="adapter_model.safetensors is damaged"):
                read_peft(tmp_path)

    @pytest.mark.parametrize("width", [float("nan"), "8", -1, True, 10**22])
    def test_a_width_that_is_none(self, width: object, tmp_path: Path):
        from lifelora.lora.saved import save

        save(adapt(tiny_llama()), tmp_path)
        path = tmp_path / "adapter_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"user_width": width}))
        with pytest.raises(ArtefactError, match=r"user_width = |impossible sizes"):
            load(tiny_llama(), tmp_path)


def test_vllms_rules_for_an_exported_adapter(tmp_path: Path):
    """vLLM takes the two files when: peft_type LORA, rank within --max-lora-rank (8 … 512), bias none, no modules_to_save, no
    DoRA, target_modules the last words of linears, and every tensor called PREFIX.module.lora_A|B.weight in pairs."""
    from safetensors.torch import load_file

    from lifelora.lora.export import write_peft_adapter

    for number, config in enumerate(EVERY):
        if getattr(config, "gate", "") == "token":
            continue
        adapters = learnt(adapt(tiny_llama(), ("all-linear",), config))
        folder = tmp_path / str(number)
        write_peft_adapter(folder, adapters, some_users()[:1] if config.needs_user else None)
        told = json.loads((folder / "adapter_config.json").read_text())
        assert (told["peft_type"], told["bias"], told["r"]) == ("LORA", "none", config.max_rank)
        assert not {"modules_to_save", "use_dora", "rank_pattern", "alpha_pattern"} & told.keys()
        assert isinstance(told["lora_alpha"], int)
        assert told["target_modules"] == sorted(["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"])
        tensors = load_file(folder / "adapter_model.safetensors")
        for name, layer in adapters.layers:
            A, B = (tensors.pop(f"base_model.model.{name}.lora_{part}.weight") for part in "AB")
            assert (tuple(A.shape), tuple(B.shape)) == ((told["r"], layer.inputs), (layer.outputs, told["r"]))
        assert not tensors
