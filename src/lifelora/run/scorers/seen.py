"""What a system sees of requests: behaviours, u and the user's soft vector, as of when each may be known. Knows no prompt."""

from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor

from lifelora import seeds
from lifelora.data.dataset import Targets
from lifelora.llm.backbone import Backbone
from lifelora.llm.soft import SoftTokens
from lifelora.recipe.system import RandomRepresentation, System
from lifelora.retrieval.growing import Growing, as_of_starts
from lifelora.retrieval.select import MostRecent, Selector
from lifelora.retrieval.shuffled import IN_WORDS, SHUFFLED
from lifelora.run.context import Context
from lifelora.run.scorers.base import Requests
from lifelora.run.scorers.conventional import ConventionalScorer, drawn
from lifelora.run.scorers.keeper import Keeper, as_of
from lifelora.run.scorers.shown import Shown
from lifelora.types import LayerOrRandom


def seen(
    context: Context,
    system: System,
    represents: ConventionalScorer | None,
    softens: ConventionalScorer | None,
    requests: Requests,
    behaviours: Selector.Config | None = None,
    keeper: Keeper | None = None,
) -> Shown:
    """Requests as a system sees them, or with other behaviours than its own; u and soft vectors are of the two models."""
    targets, known = requests.targets, None
    selector = growing(system) or context.selector(behaviours or system.behaviours)
    chosen_NK, mask_NK = selector.select(context.dataset, targets)
    if system.block is not None and system.coupling_on == "prompt":
        # What acts on a whole history may know nothing that came after the first question about it.
        known = as_of_starts(targets, system.block)
    user_ND, gather, soft_user_NX = torch.zeros(len(targets), 0), None, None
    if isinstance(system.representation, RandomRepresentation):
        user_ND = random(context, system.representation.width, targets, keeper)
    elif system.representation is not None:
        assert represents is not None
        if system.representation.train != "frozen":
            gather = represents.samples
        else:
            user_ND = represented(represents, system.representation.layer, known or targets, keeper, system.block)
    if system.soft is not None and "user" in system.soft.at:
        assert softens is not None
        soft_user_NX = represented(softens, system.soft.layer, targets, keeper)
    return Shown(requests, chosen_NK, mask_NK, user_ND, gather, soft_user_NX, known, coupling_on=system.coupling_on)


def represented(
    model: ConventionalScorer, layer: LayerOrRandom, targets: Targets, keeper: Keeper | None, block: int | None = None
) -> Float[Tensor, "N D"]:
    """u of each target by a model's layer. Where it knows nothing of the target itself, a user's is made once, and kept;
    ``block`` tells those as of the beginnings of blocks from others.
    """
    if keeper is None or (layer != "random" and model.sees_target_by(layer)):
        return model.represent(targets, layer)
    return keeper.represented(
        (model.name, layer, block), as_of(targets), lambda place_N: model.represent(targets.at(place_N), layer)
    )


def random(context: Context, width: int, targets: Targets, keeper: Keeper | None) -> Float[Tensor, "N D"]:
    """Numbers drawn for each target's user. They are drawn for all users at a time; kept, they know of no event."""
    if keeper is None:
        return drawn(context, width, targets)
    whose = [(user, 0) for user, _ in as_of(targets)]
    return keeper.represented(("random", width), whose, lambda place_N: drawn(context, width, targets.at(place_N)))


def growing(system: System) -> Growing | None:
    """What chooses the behaviours of a growing history; None where each sample has its own."""
    if system.block is None:
        return None
    assert isinstance(system.behaviours, MostRecent.Config)  # the recipe knows no others
    return Growing(system.behaviours.k, system.block)


def shown_in_words(system: System) -> str:
    """Which behaviours are shown, for a reader of the report."""
    words = (growing(system) or system.behaviours).in_words()
    return f"{words}, {IN_WORDS}" if system.control == SHUFFLED else words


def width(system: System, represents: ConventionalScorer | None) -> int | None:
    """D of u; None where there is none."""
    found = system.representation
    if found is None:
        return None
    if isinstance(found, RandomRepresentation):
        return found.width
    assert represents is not None
    return represents.width(found.layer)


def soft_tokens(
    context: Context, name: str, system: System, softens: ConventionalScorer | None, backbone: Backbone
) -> SoftTokens | None:
    """What makes the soft tokens of a system of that name; None where it has none."""
    config = system.soft
    if config is None or softens is None:
        return None
    words = int(cast(Any, backbone.model).get_input_embeddings().embedding_dim)
    items_ME = softens.item_embeddings() if {*config.at} != {"user"} else None
    of_user = softens.width(config.layer) if "user" in config.at else None
    with seeds.torch_seeded(context.recipe.seed, "soft", name):
        return SoftTokens(words, items_ME, of_user, config.projector)
