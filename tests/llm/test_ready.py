"""Which families can read prompt trees, what is said of the others, and that nothing is left on those."""

import copy
from pathlib import Path

import pytest
import torch
from families_world import BUILT, SIZES, saved, tiny
from llm_world import tiny_llama, tiny_tokenizer
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM
from trees_world import prompt, trees

from lifelora.errors import ConfigError
from lifelora.llm.backbone import Backbone, Pretrained, load
from lifelora.llm.probe import probe
from lifelora.llm.trees.interface import NAME, asks_early, installed
from lifelora.llm.trees.reading import read
from lifelora.llm.trees.ready import ready
from lifelora.lora.adapters import Adaptation
from lifelora.lora.coupling import Full
from lifelora.lora.inject import personalise
from lifelora.prompts.tree import PromptTrees

CPU = torch.device("cpu")
READS = {  # and whether the tokens that are read alone may ask in the last layer
    "llama": True,
    "qwen2": True,
    "qwen3": True,
    "mistral": True,
    "gemma": True,
    "phi": True,
    "cohere": True,
    "granite": True,
    "mixtral": True,
    "qwen3_moe": True,
    "opt": True,
    "gpt2": False,  # brings what its layers give into the shape of what it was asked
}
READS_NOT = {
    "bloom": "the attention of BloomForCausalLM is 'eager'",
    "mpt": "the attention of MptForCausalLM is 'eager'",
    "gptj": "the attention of GPTJForCausalLM is 'eager'",
    "gemma2": "the attention of Gemma2ForCausalLM is 'eager'",
    "mamba2": "the attention of Mamba2ForCausalLM is 'eager'",
    "gemma3_text": "Gemma3ForCausalLM looks 8 tokens back, and prompts may be of up to 64; set backbone.context = 8.",
    "stablelm": "none of the 2 layers of StableLmForCausalLM attend through transformers' interface",
    "qwen3_5_text": "1 of the 2 layers of Qwen3_5ForCausalLM attend through",
    "lfm2": "1 of the 2 layers of Lfm2ForCausalLM attend through",
    "bamba": "1 of the 2 layers of BambaForCausalLM attend through",
    "granitemoehybrid": "1 of the 2 layers of GraniteMoeHybridForCausalLM attend through",
}


def of(family: str, **changed: object) -> nn.Module:
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **(SIZES | BUILT[family] | changed))).eval()


def state(model: nn.Module) -> list[tuple[str, type, set[str], object]]:
    return [(name, type(m), set(vars(m)), m.config.to_dict()) for name, m in model.named_modules() if hasattr(m, "config")] + [
        (name, type(m), set(vars(m)), None) for name, m in model.named_modules()
    ]


@torch.no_grad()
def whole(model: nn.Module, made: PromptTrees) -> Tensor:
    """What the model says after each branch's prompt, alone and without mask or positions."""
    return torch.stack([model(input_ids=prompt(made, branch)[None]).logits[0, -1] for branch in range(len(made))])


@torch.no_grad()
def asked(model: nn.Module, made: PromptTrees) -> Tensor:
    return read(model, made, {"input_ids": made.tokens_L[None]})


class TestFamilies:
    @pytest.mark.parametrize("family", READS)
    def test_that_read_trees(self, family: str):
        model, made = tiny(family), trees()
        expected = whole(model, made)
        found = probe(model, tiny_tokenizer(), "it")
        assert (found.trees, found.early) == ("", READS[family])
        ready(model)
        assert asks_early(model) is READS[family]
        off = (asked(model, made) - expected).abs().max() / expected.std()
        assert off < 1e-4

    @pytest.mark.parametrize("family", READS_NOT)
    def test_that_do_not(self, family: str):
        model = tiny(family)
        before, attention = state(model), model.config._attn_implementation
        found = probe(model, tiny_tokenizer(), "it")
        assert found.trees.startswith(READS_NOT[family])
        assert "\n" not in found.trees
        assert not found.early
        with pytest.raises(ConfigError, match="prompts cannot be trees: "):
            ready(model)
        assert state(model) == before
        assert model.config._attn_implementation == attention
        with pytest.raises(ConfigError, match=r"is not ready to read prompt trees: say `ready\(model\)` once"):
            asked(model, trees())

    def test_every_family_is_told(self):
        refused = {"rwkv", "xlstm", "bert", "roberta"}
        assert {*READS, *READS_NOT, *refused} == set(BUILT)

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
    @pytest.mark.parametrize("family", ["llama", "gpt2", "opt"])
    def test_in_another_dtype(self, family: str, dtype: torch.dtype):
        assert probe(tiny(family, dtype), tiny_tokenizer(), "it").trees == ""

    def test_tied_words_and_one_head_of_keys(self):
        """As SmolLM2 has them."""
        model, made = of("llama", tie_word_embeddings=True, num_key_value_heads=1), trees()
        expected = whole(model, made)
        ready(model)
        assert (asked(model, made) - expected).abs().max() < 1e-4 * expected.std()


class TestWindows:
    """A window matters where prompts are longer than it."""

    @pytest.mark.parametrize(("window", "limit", "reads"), [(32, None, False), (32, 33, False), (32, 32, True), (64, None, True)])
    def test_by_the_longest_prompt(self, window: int, limit: int | None, reads: bool, tmp_path: Path):
        of("mistral", sliding_window=window).save_pretrained(tmp_path)
        tiny_tokenizer().save_pretrained(tmp_path)
        backbone = load(Pretrained(path=str(tmp_path), context=limit), CPU)
        assert (backbone.trees == "") is reads
        assert installed(backbone.model) is reads
        if not reads:
            assert backbone.trees == (
                f"MistralForCausalLM looks 32 tokens back, and prompts may be of up to {limit or 64}; set backbone.context = 32."
            )

    def test_a_longer_prompt_that_comes_all_the_same(self, tmp_path: Path):
        of("mistral", sliding_window=16).save_pretrained(tmp_path)
        tiny_tokenizer().save_pretrained(tmp_path)
        model = load(Pretrained(path=str(tmp_path), context=16), CPU).model
        fits, longer = ((trunk, torch.tensor([4])) for trunk in (torch.tensor([12]), torch.tensor([13])))
        for trunk_R, branch_G in (fits, longer):
            place_G = trunk_R.clone()
            made = PromptTrees(
                torch.arange(5, 5 + int(trunk_R + branch_G)), trunk_R, branch_G, torch.tensor([0]), place_G, place_G
            )
            if int(trunk_R) == 12:
                assert (asked(model, made) - whole(model, made)).abs().max() < 1e-4
            else:
                with pytest.raises(ConfigError, match=r"sees 16 tokens back, and a prompt of this tree has 17; .*context = 16"):
                    asked(model, made)

    def test_a_window_of_no_layer(self):
        assert probe(of("qwen3", sliding_window=8, use_sliding_window=False), tiny_tokenizer(), "it").trees == ""
        assert (
            "looks 8 tokens back"
            in probe(of("qwen3", sliding_window=8, use_sliding_window=True, max_window_layers=1), tiny_tokenizer(), "it").trees
        )


class TestOtherAttention:
    def test_a_cap_and_sinks_are_refused(self):
        """By what attention is told: the same Llama, whose layers say more."""
        for told, why in (({"softcap": 5.0}, "a cap on its products"), ({"s_aux": torch.zeros(4)}, "sinks")):
            model = tiny_llama(60)
            for layer in model.model.layers:
                forward = layer.self_attn.forward
                layer.self_attn.forward = lambda forward=forward, told=told, **inputs: forward(
                    **(inputs | (told if "prompt_tree" in inputs else {}))
                )
            with pytest.raises(ConfigError, match=f"attention of LlamaAttention has {why}"):
                ready(model)

    def test_attention_that_is_not_sdpa(self, tmp_path: Path):
        backbone = load(Pretrained(path=str(saved("llama", tmp_path)), attention="eager"), CPU)
        assert backbone.trees == "the attention of LlamaForCausalLM is 'eager', and trees are read by 'sdpa'."
        assert backbone.model.config._attn_implementation == "eager"

    def test_a_model_that_does_more(self):
        """One that adds to each token something of the one before it in the row: no keyword of attention tells."""
        model = tiny_llama(60)
        norm = model.model.norm.forward
        model.model.norm.forward = lambda hidden: norm(hidden + hidden.roll(1, dims=1))
        with pytest.raises(ConfigError, match="does not answer a tree as it answers the prompts that the tree stands for"):
            ready(model)


class TestPlainPrompts:
    @pytest.mark.parametrize("family", READS)
    @torch.no_grad()
    def test_are_answered_bit_for_bit_as_before(self, family: str):
        model, tokens_BL = tiny(family), torch.randint(5, 60, (3, 9), generator=torch.Generator().manual_seed(2))
        mask_BL = torch.arange(9) >= torch.tensor([0, 3, 5])[:, None]
        position_BL = (mask_BL.long().cumsum(dim=1) - 1).clamp(min=0)
        for inputs in (
            {"input_ids": tokens_BL},
            {"input_ids": tokens_BL, "attention_mask": mask_BL.long(), "position_ids": position_BL, "logits_to_keep": 1},
        ):
            before = model(**inputs, use_cache=True)
            twin = copy.deepcopy(model)
            ready(twin)
            after = twin(**inputs, use_cache=True)
            assert torch.equal(before.logits, after.logits)
            for one, other in zip(before.past_key_values.layers, after.past_key_values.layers, strict=True):
                assert torch.equal(one.keys, other.keys)

    def test_a_saved_model_names_no_attention_of_ours(self, tmp_path: Path):
        model = tiny_llama(60)
        ready(model)
        model.save_pretrained(tmp_path)
        assert NAME not in (tmp_path / "config.json").read_text()


class TestReady:
    def test_of_a_model_that_was_loaded(self, tmp_path: Path):
        backbone = load(Pretrained(path=str(saved("llama", tmp_path))), CPU)
        assert (backbone.trees, backbone.early) == ("", True)
        assert installed(backbone.model)
        assert asks_early(backbone.model)
        assert load(Pretrained(path=str(saved("gpt2", tmp_path / "gpt2"))), CPU).early is False

    def test_a_backbone_that_was_not_loaded_says_so(self):
        assert Backbone(tiny_llama(60), None, "mine").trees

    def test_beneath_personal_adapters_and_while_training(self):
        model = tiny_llama(60).train()
        adapters = personalise(model, Adaptation(coupling=Full.Config(rank=2)), user_width=3)
        ready(model)
        assert adapters.in_place
        assert model.training
        ready(model)  # again: nothing happens

    def test_a_copy_reads_by_its_own_weights(self):
        model, made = tiny_llama(60), trees()
        ready(model)
        twin = copy.deepcopy(model)
        before = asked(model, made)
        with torch.no_grad():
            for parameter in twin.model.layers[-1].parameters():
                parameter.mul_(2)
        assert torch.equal(asked(model, made), before)
        assert (asked(twin, made) - whole(twin, made)).abs().max() < 1e-4
        assert (asked(twin, made) - before).abs().max() > 1e-2
