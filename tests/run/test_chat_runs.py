"""Runs of a chat model: both tasks, alone and on trees, what is printed, recommended and kept; and runs without a chat."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.utils import logging

from chat_world import CHATML, FAMILIES, by_transformers, chatting
from lifelora.cli import main
from lifelora.errors import ConfigError
from lifelora.prompts.lines.base import table_texts
from lifelora.recipe.files import parse
from lifelora.recipe.recipe import Recipe
from lifelora.run import Options, Run
from lifelora.run.prompts import prompt
from lifelora.run.scorers.base import Requests
from lifelora.run.stages import Stages
from run_world import TRAINING, tiny

QUIET = Options(device="cpu", progress=False)
SYSTEM = {
    "behaviours": {"kind": "most-recent", "k": 3},
    "coupling": {"kind": "identity", "rank": 2},
    "train_samples": 8,
    "validation_samples": 8,
    "training": TRAINING | {"learning_rate": 5e-2, "batch_size": 4},
}
SYSTEMS = {
    "plain": SYSTEM,
    "chat": SYSTEM | {"template": {"chat": True}},
    "growing": SYSTEM | {"template": {"chat": True, "system": "You know books."}, "history": "growing", "block": 4},
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny Llama of one token a byte and the chat template of ChatML."""
    logging.disable_progress_bar()
    folder, alphabet = tmp_path_factory.mktemp("model"), sorted(pre_tokenizers.ByteLevel.alphabet())
    bare = Tokenizer(models.BPE(vocab={letter: number for number, letter in enumerate(alphabet)}, merges=[]))
    bare.pre_tokenizer, bare.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    tokenizer = chatting(bare, FAMILIES["chatml"])
    torch.manual_seed(0)
    LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=16,
            intermediate_size=24,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=1024,
            initializer_range=0.3,
        )
    ).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    assert (folder / "chat_template.jinja").read_text() == CHATML
    return folder


def recipe(model: Path, task: str, systems: dict[str, Any]) -> Recipe:
    rules = {"min_history": 3, "split": {"kind": "leave-one-out"}} | ({"candidates": {"count": 4}} if task == "next-item" else {})
    values = {
        "name": "chat",
        "task": task,
        "data": {"source": {"kind": "simulated", "users": 8, "items": 60, "events_per_user": 10}, "rules": rules},
        "backbone": {"kind": "pretrained", "path": str(model)},
        "evaluation": {"test_samples": 8, "resamples": 100} | ({"written_tokens": 4} if task == "next-item" else {}),
        "systems": systems,
    }
    return parse(values, "the test")


@pytest.fixture(scope="module", params=["ctr", "next-item"])
def run(request: pytest.FixtureRequest, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    made = Run(recipe(model, request.param, SYSTEMS), tmp_path_factory.mktemp("run") / request.param, QUIET)
    made.all()
    return made


def asked(run: Run) -> Requests:
    rows = run.context.test_samples
    return Requests(run.context.dataset.targets(rows), run.context.candidates("test", rows))


def message(run: Run, requests: Requests, place: int) -> str:
    """The prompt of 'plain' as text."""
    dataset, system = run.context.dataset, run.recipe.systems["plain"]
    items, words = table_texts(dataset.catalogue), dataset.words.model_dump()
    row_K, _ = dataset.history(requests.targets, 3)[0][place], None
    if run.recipe.task == "next-item":
        listed = [items[item] for item in requests.candidates[place]]
        return (
            system.phrasings[0].leaving_out(dataset.left_out).render(words, [items[dataset.item_N[row]] for row in row_K], listed)
        )
    shown = [(items[dataset.item_N[row]], dataset.levels[dataset.rating_N[row]]) for row in row_K]
    user = table_texts(dataset.profiles)[requests.targets.user_B[place]]
    template = run.recipe.systems["chat"].template.leaving_out(dataset.left_out).model_copy(update={"chat": False})
    return template.render(words, user, shown, items[requests.targets.item_B[place]])


def test_prompts_are_the_models_own_chats(run: Run):
    requests, scorer = asked(run), run.scorers["chat"]
    batch = scorer.batch(scorer.show(requests), np.arange(len(requests))).prompts
    for place in range(len(requests)):
        ids = by_transformers(run.context.backbone.tokenizer, message(run, requests, place))
        if hasattr(batch, "mask_BL"):
            assert batch.tokens_BL[place][batch.mask_BL[place]].tolist() == ids
        else:
            start, length = int(batch.starts[place]), int(batch.branch_G[place])
            assert batch.tokens_L[start : start + length].tolist() == ids[len(ids) - length :]


@pytest.mark.parametrize("name", ["chat", "growing"])
def test_what_is_shared_is_what_is_read_alone(run: Run, name: str):
    """The same scores with and without trees, of a system that was trained on them; titles share their prompt as well."""
    alone = Run(run.recipe, run.folder, replace(QUIET, trees=False))
    requests = asked(run)
    shared, apart = (one.scorers[name].score(requests) for one in (run, alone))
    assert np.abs(shared - apart).max() < 1e-4
    assert np.abs(shared - run.scorers["plain"].score(requests)).max() > 1e-3
    if run.recipe.task == "next-item":
        answers = run.scorers[name].answers(requests, 1, 4)
        assert np.isfinite(answers.values["chosen hr@1"]).all()


def test_a_prompt_is_printed_with_its_control_tokens(run: Run, capsys: pytest.CaptureFixture[str]):
    found = prompt(run, "growing")
    text = str(found)
    assert "⟦<|im_start|>⟧system\n" in text
    assert "        You know books.⟦<|im_end|>⟧\n" in text
    assert text.count("⟦<|im_start|>⟧assistant") == 1
    assert "control tokens (⟦ ⟧)" in text
    assert "⟦" not in str(prompt(run, "plain"))
    pieces = [token for piece in prompt(run, "chat").texts["prompt"].pieces for token in piece.ids]
    requests = run.task.requests("test", np.array([run.task.example_sample()]))
    scorer = run.scorers["chat"]
    assert pieces == scorer.prompts(scorer.show(requests), np.arange(1)).tokens_BL[0].tolist()
    first, last = ("Yes", "No") if run.recipe.task == "ctr" else (prompt(run, "chat").answers[0], "<|im_end|>")
    assert (prompt(run, "chat").answers[0], prompt(run, "chat").answers[-1][-len(last) :]) == (first, last)
    assert main(["prompt", str(run.folder), "--system", "chat", "--json"]) == 0
    assert '"with_control_tokens": "⟦<|im_start|>⟧system' in capsys.readouterr().out


def test_another_chat_template_makes_other_systems_and_no_others(run: Run, model: Path):
    """And a stage of a system without a chat is what it was before there were any."""
    before = {name: Stages(run.recipe, run.folder).system(name).key for name in SYSTEMS}
    file = model / "chat_template.jinja"
    file.write_text(CHATML.replace("Tiny", "Large"))
    try:
        after = {name: Stages(run.recipe, run.folder).system(name).key for name in SYSTEMS}
    finally:
        file.write_text(CHATML)
    assert {name for name in SYSTEMS if before[name] != after[name]} == {"chat", "growing"}
    config = str(Stages(run.recipe, run.folder).system("plain").config)
    assert "chat" not in config
    assert "system'" not in config


def test_a_backbone_that_is_not_here_yet(run: Run, tmp_path: Path):
    """Its chat template is not known, and it is said."""
    elsewhere = recipe(Path("nobody/knows-this-model"), run.recipe.task, {"chat": SYSTEMS["chat"]})
    other = Run(elsewhere, tmp_path / "run", QUIET)
    other.prepare()
    found = prompt(other)
    assert "so the prompt stands in no chat template" in found.tokenizer
    assert "⟦" not in str(found)


def test_what_a_chat_does_not_fit(model: Path):
    chat = {"template": {"chat": True}}
    with pytest.raises(ConfigError, match=r"backbone.kind = 'nano', .*systems.lora.template.chat = false"):
        tiny(**chat)
    with pytest.raises(
        ConfigError, match=r"systems.a.template has no meaning where task = 'next-item'; remove all of it but chat"
    ):
        recipe(model, "next-item", {"a": SYSTEM | {"template": {"chat": True, "answer": "So?"}}})
    with pytest.raises(ConfigError, match=r"template.chat = true asks a chat model, and an encoder"):
        values = recipe(model, "ctr", SYSTEMS).model_dump(mode="json", exclude_none=True)
        parse(values | {"two_towers": {"bert": {"path": str(model), **chat}}}, "the test")


def test_a_model_that_was_tuned_for_no_chat_is_refused_before_anything_is_trained(model: Path, tmp_path: Path):
    bare = tmp_path / "bare"
    bare.mkdir()
    for file in model.iterdir():
        if file.suffix != ".jinja":
            (bare / file.name).write_bytes(file.read_bytes())
    run = Run(recipe(bare, "ctr", {"chat": SYSTEMS["chat"]}), tmp_path / "run", QUIET)
    run.prepare()
    with pytest.raises(ConfigError, match=r"no chat template .*template.chat = false"):
        run.embed()
