"""What the probe at loading finds: families that are right, and those that no mask, no order and no context would keep right."""

from pathlib import Path

import pytest
import torch
from families_world import BUILT, NAMELESS, RIGHT, SIZES, VOCABULARY, saved, tiny
from llm_world import tiny_llama, tiny_tokenizer
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, Gemma3Config

from lifelora.errors import ConfigError
from lifelora.llm.backbone import Backbone, Pretrained, load
from lifelora.llm.context import named_context
from lifelora.llm.probe import probe

CPU = torch.device("cpu")


def refusal(model: nn.Module) -> str:
    with pytest.raises(ConfigError) as caught:
        probe(model, tiny_tokenizer(), "backbone.path = 'it'")
    return str(caught.value)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("family", RIGHT)
def test_families_that_are_right(family, dtype):
    found = probe(tiny(family, dtype), tiny_tokenizer(), "it")
    assert found.head
    assert (found.titles == "") == (family != "mamba2")


@torch.no_grad()
def test_what_the_probe_says_is_so():
    """By hand, with other texts: RWKV's answer does depend on its padding, and Llama's does not."""

    def moved(family: str) -> float:
        model, text = tiny(family), torch.arange(20, 28)
        answers = [
            model(
                input_ids=torch.cat([torch.full((5,), fill), text])[None],
                attention_mask=torch.tensor([[0] * 5 + [1] * 8]),
                position_ids=torch.tensor([[0] * 5 + list(range(8))]),
            ).logits[0, -1]
            for fill in (50, 90)
        ]
        return ((answers[0] - answers[1]).std() / answers[0].std()).item()

    assert moved("rwkv") > 0.05
    assert moved("llama") < 1e-5


@pytest.mark.parametrize(
    ("family", "message"),
    [
        ("rwkv", "RwkvForCausalLM reads the padding of a prompt though the mask leaves it out"),
        ("xlstm", "xLSTMForCausalLM reads the padding"),
        ("bert", "BertLMHeadModel is not causal: earlier tokens see later ones"),
        # Its own positions begin at 2 and not at 0.
        ("roberta", "RobertaForCausalLM answers a padded prompt otherwise than the prompt alone"),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_families_that_are_refused(family, message, dtype):
    assert f"backbone.path = 'it': {message}" in refusal(tiny(family, dtype))


class TestByWhatTheyDo:
    """The same Llama with one thing changed: no name tells."""

    def test_a_mask_that_is_not_looked_at(self):
        model = tiny_llama(VOCABULARY)
        forward = model.forward
        model.forward = lambda **inputs: forward(**(inputs | {"attention_mask": torch.ones_like(inputs["input_ids"])}))
        assert "reads the padding" in refusal(model)

    def test_positions_that_count_the_padding(self):
        """In GPT-2, whose places are absolute; Llama knows only their differences."""
        model = tiny("gpt2")
        forward = model.forward
        model.forward = lambda **inputs: forward(**(inputs | {"position_ids": None}))
        assert "answers a padded prompt otherwise than the prompt alone" in refusal(model)

    def test_no_order(self):
        model = tiny_llama(VOCABULARY)
        for layer in model.model.layers:
            layer.self_attn.is_causal = False
        model.config._attn_implementation = "sdpa"
        forward = model.model.forward

        def unmasked(**inputs: object) -> object:
            mask_BL: Tensor | None = inputs.get("attention_mask")
            mask_BL = torch.ones_like(inputs["input_ids"]) if mask_BL is None else mask_BL
            return forward(**(inputs | {"attention_mask": mask_BL.bool()[:, None, None, :].expand(-1, 1, mask_BL.shape[1], -1)}))

        model.model.forward = unmasked
        assert "is not causal" in refusal(model)

    def test_damaged_weights(self):
        model = tiny_llama(VOCABULARY)
        with torch.no_grad():
            model.model.layers[1].mlp.up_proj.weight[0, 0] = torch.nan
        assert "no numbers (NaN or infinite)" in refusal(model)

    def test_what_cannot_be_asked(self):
        model = tiny_llama(VOCABULARY)
        model.forward = lambda input_ids: None
        assert "cannot be called with a mask and positions: " in refusal(model)

    @pytest.mark.parametrize(
        "change",
        [
            lambda logits: torch.nn.functional.pad(logits, (0, VOCABULARY - logits.shape[-1])),  # not of so few words
            lambda logits: logits + torch.linspace(0, 9, VOCABULARY),  # a bias of every word
            lambda logits: logits - logits.mean(dim=-1, keepdim=True),  # what is done to a few depends on all
            lambda logits: logits.bfloat16(),
        ],
    )
    def test_a_head_that_cannot_be_read_word_by_word(self, change):
        model = tiny_llama(VOCABULARY)
        assert probe(model, tiny_tokenizer(), "it").head
        forward = model.forward

        def changed(**inputs: object) -> object:
            output = forward(**inputs)
            output.logits = change(output.logits)
            return output

        model.forward = changed
        found = probe(model, tiny_tokenizer(), "it")
        assert not found.head

    def test_a_cache_that_does_not_keep_the_prompt(self):
        model = tiny_llama(VOCABULARY)
        forward = model.forward

        def forgets(**inputs: object) -> object:
            output = forward(**inputs)
            if inputs.get("use_cache"):
                for layer in output.past_key_values.layers:
                    layer.values = torch.zeros_like(layer.values)
            return output

        model.forward = forgets
        assert "does not give the titles" in probe(model, tiny_tokenizer(), "it").titles


class TestContext:
    @pytest.mark.parametrize(
        ("family", "value"),
        [("llama", 64), ("gpt2", 64), ("mpt", 64), ("rwkv", 64), ("gptj", 64)] + [(family, None) for family in NAMELESS],
    )
    def test_as_the_family_calls_it(self, family, value):
        sizes = {key: size for key, size in SIZES.items() if key != "max_position_embeddings"}
        sizes |= {"max_position_embeddings": 64} if family == "llama" else {}
        assert named_context(AutoConfig.for_model(family, **(sizes | BUILT[family]))) == value

    def test_of_the_language_model_where_there_are_several(self):
        text = {**SIZES, "sliding_window": 8, "max_position_embeddings": 96}
        text.pop("initializer_range")
        config = Gemma3Config(
            text_config=text,
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
        model = AutoModelForCausalLM.from_config(config).eval()
        assert Backbone(model, None, "").context == 96
        assert probe(model, tiny_tokenizer(), "it").titles == ""

    def test_where_nothing_names_it_it_has_to_be_said(self, tmp_path: Path):
        folder = str(saved("bloom", tmp_path / "bloom"))
        with pytest.raises(
            ConfigError,
            match=r"of BloomForCausalLM names no longest sequence \(max_position_embeddings, .*"
            r"backbone\.context = 2048",
        ):
            load(Pretrained(path=folder, attention="eager"), CPU)
        assert load(Pretrained(path=folder, attention="eager", context=300), CPU).context == 300

    def test_an_attention_that_it_has_not(self, tmp_path: Path):
        with pytest.raises(ConfigError, match=r"does not support an attention.* Set backbone\.attention = 'eager'"):
            load(Pretrained(path=str(saved("bloom", tmp_path / "bloom"))), CPU)

    def test_it_may_be_shorter_and_not_longer(self, tmp_path: Path):
        folder = str(saved("llama", tmp_path / "llama"))
        assert load(Pretrained(path=folder), CPU).context == 64
        assert load(Pretrained(path=folder, context=40), CPU).context == 40
        with pytest.raises(ConfigError, match=r"backbone\.context = 65 is longer than the 64 tokens that LlamaForCausalLM"):
            load(Pretrained(path=folder, context=65), CPU)


class TestLoading:
    @pytest.mark.parametrize(("family", "titles"), [("lfm2", True), ("mamba2", False)])
    def test_what_was_found_is_kept(self, family, titles, tmp_path: Path):
        loaded = load(Pretrained(path=str(saved(family, tmp_path / family)), context=64, attention="eager"), CPU)
        assert loaded.head
        assert (loaded.titles == "") is titles

    def test_a_refused_one(self, tmp_path: Path):
        folder = saved("rwkv", tmp_path / "rwkv")
        with pytest.raises(ConfigError, match=rf"backbone\.path = '{folder}': RwkvForCausalLM reads the padding"):
            load(Pretrained(path=str(folder), attention="eager"), CPU)

    def test_nothing_is_left_of_the_probe(self):
        model = tiny_llama(VOCABULARY)
        before = {name: dict(vars(module)) for name, module in model.named_modules()}
        state = torch.get_rng_state()
        probe(model, tiny_tokenizer(), "it")
        assert torch.equal(torch.get_rng_state(), state)
        assert {name: dict(vars(module)) for name, module in model.named_modules()} == before
