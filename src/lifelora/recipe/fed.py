"""Which systems a conventional model feeds, and what of their samples it must not have been fitted on. Knows sections, no data.

On samples that a model was fitted on it knows the answers in part, so u or a prior made there is better than it will ever be
again, and a system that learns from them trusts it too much.
"""

from collections.abc import Mapping

from lifelora.recipe.sections import Conventional
from lifelora.recipe.system import System


def fed(systems: Mapping[str, System], model: str) -> dict[str, System]:
    """The systems to which a conventional model gives u, soft tokens or a prior, by name."""
    return {name: system for name, system in systems.items() if model in system.fed_by}


def learnt_from(systems: Mapping[str, System], model: str) -> dict[int, int]:
    """How many training samples these draw at most, by how they are drawn: by blocks of so many events, 0 for one by one.

    Fewer samples are the first of more, so these hold all that any of them learns from.
    """
    most: dict[int, int] = {}
    for system in fed(systems, model).values():
        assert system.train_samples is not None
        block = system.block or 0
        most[block] = max(most.get(block, 0), system.train_samples)
    return dict(sorted(most.items()))


def check(name: str, step: Conventional, systems: Mapping[str, System]) -> None:
    """Raise ValueError where ``held_out`` or ``folds`` of a conventional model cannot do what they are for."""
    asked = ["held_out"] * (step.held_out != "none") + ["folds"] * (step.folds is not None)
    if not asked:
        return
    place = f"conventional.{name}.{asked[0]}"
    if step.model.counts:
        raise ValueError(f"{place}: {step.model.kind} counts all training events, whatever their samples are for; remove it")
    if len(asked) == 2:
        raise ValueError(
            f"conventional.{name} has held_out and folds; held out, the samples of its systems are not fitted at all, and "
            "folds would leave none of them out; remove one"
        )
    users = fed(systems, name)
    if step.folds is not None and all(system.prior != name for system in users.values()):
        raise ValueError(
            f"{place} = {step.folds} is for priors alone (vectors of two models are not of one space), and no system has "
            f"prior = '{name}'; remove folds"
        )
    if step.folds is None and not users:
        raise ValueError(f"{place} is about the samples of systems that '{name}' feeds, and it feeds none; remove held_out")
    for system in users if step.folds is None else ():
        if users[system].train_samples is None:
            raise ValueError(
                f"systems.{system} learns from all training samples, so {place} = 'systems' leaves none to fit '{name}' on; "
                f"give systems.{system}.train_samples, or, for a prior, conventional.{name}.folds"
            )
