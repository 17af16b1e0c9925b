"""The law of trees: what is said of a branch is what is said of its prompt, whatever couples A and B."""

import pytest
import torch
from families_world import VOCABULARY, tiny
from trees_world import prompts, trees

from lifelora.llm.personal import CoupledOn, PersonalBatch
from lifelora.llm.trees.ready import ready
from lifelora.llm.yes_no import YesNoLM
from lifelora.lora.adapters import Adaptation
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


@pytest.mark.parametrize("coupled_on", ["prompt", "question"])
@pytest.mark.parametrize("coupling", COUPLINGS)
def test_a_tree_equals_its_prompts(coupling: str, coupled_on: CoupledOn) -> None:
    torch.manual_seed(0)
    model, made = tiny("llama").double(), trees(VOCABULARY)
    ready(model)
    config = Adaptation(coupling=COUPLINGS[coupling], targets=("all-linear",), dropout=0.0)
    adapters = personalise(model, config, user_width=D)
    for parameter in adapters.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    lm = YesNoLM(model, adapters, Answers(7, 8), coupling_on=coupled_on)
    user_RD, label_G = torch.randn(2, D), torch.tensor([1.0, 0.0, 1.0, 1.0, 0.0])
    user_GD = user_RD[made.tree_G]
    whole = PersonalBatch(prompts(made), user_GD, label_G)
    tree = PersonalBatch(made, user_RD if coupled_on == "prompt" else user_GD, label_G)
    grads = []
    for batch in (whole, tree):
        with lm.scope(batch):
            loss = lm.loss(batch)
            loss.backward()
        grads.append((loss.item(), [p.grad.clone() for p in adapters.parameters() if p.grad is not None]))
        for parameter in adapters.parameters():
            parameter.grad = None
    assert grads[0][0] == pytest.approx(grads[1][0], rel=1e-6)
    assert len(grads[0][1]) == len(grads[1][1])
    for one, other in zip(grads[0][1], grads[1][1], strict=True):
        # Llama's norms round to fp32, whatever the model's dtype.
        assert (other - one).abs().max() <= 1e-5 * one.abs().max()
