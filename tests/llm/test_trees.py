"""The law of trees: what is said of a branch is what is said of its prompt, whatever couples A and B."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from families_world import VOCABULARY, tiny
from torch import nn
from trees_world import answered, prompts, titles, trees

from lifelora.errors import ConfigError
from lifelora.llm.personal import CoupledOn, PersonalBatch, PersonalLM
from lifelora.llm.titles import TitleLM
from lifelora.llm.trees.ready import ready
from lifelora.llm.yes_no import YesNoLM
from lifelora.lora.adapters import Adaptation, Adapters
from lifelora.lora.coupling import Coupling, Experts, Full, Hydra, Identity, Meta, Static
from lifelora.lora.inject import personalise
from lifelora.prompts.yes_no import Answers

D = 6
COUPLINGS: dict[str, Coupling.Config] = {
    "identity": Identity.Config(rank=4),
    "static": Static.Config(rank=4),
    "experts": Experts.Config(rank=4, experts=2),
    "meta": Meta.Config(rank=2),
    "hydra": Hydra.Config(rank=4),
    "full": Full.Config(rank=4),
}


def adapted(coupling: str, make: Callable[[nn.Module, Adapters], PersonalLM]) -> PersonalLM:
    """A small model whose adapters change much."""
    torch.manual_seed(0)
    model = tiny("llama").double()
    ready(model)
    config = Adaptation(coupling=COUPLINGS[coupling], targets=("all-linear",), dropout=0.0)
    adapters = personalise(model, config, user_width=D)
    for parameter in adapters.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return make(model, adapters)


def check(lm: Any, whole: PersonalBatch, tree: PersonalBatch) -> None:
    """Both give one loss, and the same gradients of all that is learnt."""
    grads = []
    for batch in (whole, tree):
        with lm.scope(batch):
            loss = lm.loss(batch)
            loss.backward()
        grads.append((loss.item(), [p.grad.clone() for p in lm.adapters.parameters() if p.grad is not None]))
        for parameter in lm.adapters.parameters():
            parameter.grad = None
    assert grads[0][0] == pytest.approx(grads[1][0], rel=1e-6)
    assert len(grads[0][1]) == len(grads[1][1]) > 0
    for one, other in zip(grads[0][1], grads[1][1], strict=True):
        # Llama's norms round to fp32, whatever the model's dtype.
        assert (other - one).abs().max() <= 1e-5 * one.abs().max()


@pytest.mark.parametrize("coupled_on", ["prompt", "question"])
@pytest.mark.parametrize("coupling", COUPLINGS)
def test_a_tree_equals_its_prompts(coupling: str, coupled_on: CoupledOn) -> None:
    made, lm = trees(VOCABULARY), adapted(coupling, lambda *parts: YesNoLM(*parts, Answers(7, 8), coupling_on=coupled_on))
    user_RD, label_G = torch.randn(2, D), torch.tensor([1.0, 0.0, 1.0, 1.0, 0.0])
    user_GD = user_RD[made.tree_G]
    whole = PersonalBatch(prompts(made), user_GD, label_G)
    check(lm, whole, PersonalBatch(made, user_RD if coupled_on == "prompt" else user_GD, label_G))


@pytest.mark.parametrize("coupled_on", ["prompt", "question"])
@pytest.mark.parametrize("coupling", ["identity", "experts", "full"])
@pytest.mark.parametrize("kind", ["questions", "titles"])
def test_answers_on_trees_are_learnt_as_in_prompts(coupling: str, coupled_on: CoupledOn, kind: str) -> None:
    """The ends of branches; or whole branches, behind a trunk that asks: there C(u) of the question is one of the trunk."""
    made = titles(VOCABULARY) if kind == "titles" else replace(trees(VOCABULARY), answer_G=torch.tensor([1, 3, 2, 4, 1]))
    lm = adapted(coupling, lambda *parts: TitleLM(*parts, coupling_on=coupled_on))
    user_RD = torch.randn(2, D)
    of_trees = coupled_on == "prompt" or kind == "titles"
    whole = PersonalBatch(answered(made), user_RD[made.tree_G])
    check(lm, whole, PersonalBatch(made, user_RD if of_trees else user_RD[made.tree_G]))


def test_the_loss_of_trees_needs_answers() -> None:
    lm = adapted("identity", TitleLM)
    batch = PersonalBatch(trees(VOCABULARY), torch.zeros(2, 0))
    with lm.scope(batch), pytest.raises(ConfigError, match="the loss needs answers"):
        lm.loss(batch)
