"""Systems beside the demo's: asked without training, and trained on mixed prompts (ReiT)."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from lifelora.errors import ConfigError
from lifelora.recipe.files import parse
from lifelora.run import Options, Run
from lifelora.run.scorers.base import Requests
from run_world import VALUES, scores

LORA = VALUES["systems"]["lora"]
SIMILAR = {"behaviours": {"kind": "most-similar", "k": 4}}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    systems = {
        "zero": LORA | SIMILAR | {"train_samples": 0},
        "mixed": LORA | SIMILAR | {"mix_with": {"kind": "most-recent", "k": 3}},
    }
    recipe = parse(VALUES | {"conventional": {}, "systems": systems}, "the tests' recipe")
    run = Run(recipe, tmp_path_factory.mktemp("runs") / "systems", Options(device="cpu", progress=False))
    run.all()
    return run


def test_without_shots_it_is_the_backbone_asked(run: Run):
    context, scorer = run.context, run.scorers["zero"]
    targets = context.dataset.targets(context.test_samples)
    prompts = scorer.prompts(scorer.show(Requests(targets)), np.arange(8))
    position_BL = (prompts.mask_BL.long().cumsum(1) - 1).clamp(min=0)
    with torch.no_grad():
        logits_BLV = context.backbone.model(
            input_ids=prompts.tokens_BL, attention_mask=prompts.mask_BL.long(), position_ids=position_BL
        ).logits
    two = logits_BLV[:, -1][:, [scorer.builder.answers.yes, scorer.builder.answers.no]].softmax(1)[:, 0]
    torch.testing.assert_close(torch.from_numpy(scores(run, "zero", targets)[:8]).float(), two, rtol=1e-4, atol=1e-5)
    assert "0 training samples" in (run.stages.report.require() / "report.html").read_text()


def test_mixed_training_shows_every_row_twice_and_tests_show_it_once(run: Run):
    scorer, targets = run.scorers["mixed"], run.context.dataset.targets(run.context.training_samples(32))
    own, other = scorer.show(Requests(targets)), scorer.show(Requests(targets), scorer.system.mix_with)
    mixed = own.mixed(other)
    assert mixed.requests.targets.item_B.tolist() == targets.item_B.tolist() * 2
    assert mixed.requests.targets.label_B.tolist() == targets.label_B.tolist() * 2
    assert mixed.chosen_NK.shape == (64, 4)
    for place in range(32):
        assert mixed.chosen_NK[place][mixed.mask_NK[place]].tolist() == own.chosen_NK[place][own.mask_NK[place]].tolist()
        later = place + 32
        assert mixed.chosen_NK[later][mixed.mask_NK[later]].tolist() == other.chosen_NK[place][other.mask_NK[place]].tolist()
    history = run.stages.system("mixed").require() / "history.json"
    assert '"steps_per_epoch": 4' in history.read_text()  # 64 rows in batches of 16
    assert len(np.load(run.stages.scores("mixed").require() / "score.npy")) == 24


@pytest.mark.parametrize(
    "changes", [{"mix_with": {"kind": "most-recent"}}, {"coupling": {"kind": "full"}, "representation": {"model": "din"}}]
)
def test_nothing_to_train_with_no_shots(changes: dict[str, object], tmp_path: Path):
    values = VALUES | {"systems": {"zero": LORA | {"train_samples": 0} | changes}}
    with pytest.raises(ConfigError, match="with train_samples = 0 nothing is trained"):
        parse(values, "the recipe")


def test_soft_tokens_train_and_are_loaded_again(tmp_path: Path):
    din = VALUES["conventional"]["din"]
    system = VALUES["systems"]["personal"] | {"soft": {"model": "din"}}
    run = Run(
        parse(VALUES | {"conventional": {"din": din}, "systems": {"soft": system}}, "the tests' recipe"),
        tmp_path / "run",
        Options(device="cpu", progress=False),
    )
    run.all()
    context, scorer = run.context, run.scorers["soft"]
    lm, before = scorer.lm, scorer.untrained()
    assert torch.equal(before.soft.vectors_ME, lm.soft.vectors_ME)
    assert not torch.equal(before.soft.item.out.weight, lm.soft.item.out.weight)
    torch.testing.assert_close(lm.soft.vectors_ME[:-1], run.scorers["din"].item_embeddings())  # and one for items to come
    targets = context.dataset.targets(context.test_samples)
    asked = scorer.show(Requests(targets))
    assert (scorer.prompts(asked, np.arange(5)).soft_BL >= 0).sum(1).tolist() == (asked.mask_NK[:5].sum(1) + 1).tolist()
    stored = np.load(run.stages.scores("soft").require() / "score.npy")
    np.testing.assert_allclose(scores(run, "soft", targets), stored, rtol=1e-5)
    with pytest.raises(ConfigError, match="soft tokens from 'din', which an ordinary LoRA does not bring along"):
        from lifelora.run.export import export

        export(run, tmp_path / "out", system="soft", users=["u00003"], item="b00003")


def test_pools_of_shots_are_fixed_by_the_seed_and_lie_in_one_another(run: Run):
    def pool(count: int, seed: int = 0) -> set[int]:
        recipe = run.recipe.model_copy(update={"seed": seed})
        return set(Run(recipe, run.folder, run.options).context.training_samples(count).tolist())

    pools = [pool(count) for count in (4, 8, 16, 32)]
    assert [len(some) for some in pools] == [4, 8, 16, 32]
    assert all(small < large for small, large in pairwise(pools))
    assert pool(16) == pools[2]
    assert pool(16, seed=1) != pools[2]
