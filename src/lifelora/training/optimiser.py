"""What moves the weights: the optimiser, its groups of parameters, and the learning rate at every step. Knows no loop."""

import math
from typing import Annotated, Any, Literal

import torch
from pydantic import BeforeValidator, Field, PositiveInt, model_validator
from torch import nn

from lifelora.errors import ConfigError
from lifelora.training.checkpoint import Learnt
from lifelora.types import NULL, Frozen

Rate = Annotated[float, Field(gt=0)]
Decay = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, lt=1)]


class Group(Frozen):
    """What some of the trained parameters have in place of the training's own."""

    learning_rate: Rate | None = None
    """In place of the training's; it follows the same schedule."""
    weight_decay: Decay | None = None
    """In place of the training's."""


def _given(groups: Any) -> Any:
    """Without those that are "null": a recipe's way to say that a group of the system it is like is not its own."""
    return {name: group for name, group in groups.items() if group not in (None, NULL)} if isinstance(groups, dict) else groups


class Optimisation(Frozen):
    """How trainable parameters are moved by their gradients."""

    optimiser: Literal["adamw", "adam"] = "adamw"
    """Where weight decay acts: ``adamw`` shrinks the weights beside the step (decoupled; Loshchilov and Hutter, 2019), ``adam``
    adds it to the gradient, so that the moments see it, too (an L2 penalty; Kingma and Ba, 2015). Without decay they are one."""
    learning_rate: Rate = 1e-3
    betas: tuple[Share, Share] = (0.9, 0.999)
    weight_decay: Decay = 0.0
    decay_vectors: bool = False
    """Whether weight decay is also on biases, norms and other vectors, and not on matrices only."""
    groups: Annotated[dict[str, Group], BeforeValidator(_given)] = Field(default_factory=dict)
    """Parameters with a rate or a decay of their own, by the first part of their names, or the first parts ("net.0", in
    quotes): "coupling" stands for all that are called coupling.…, "soft" for soft.…. Where several fit, the longest counts.
    iLoRA (arXiv 2408.10159) trains projector, router and adapters apart: the router at 0.3 of the others' rate, and weight
    decay on projector and router only."""
    schedule: Literal["constant", "linear", "cosine"] = "linear"
    schedule_epochs: PositiveInt | None = None
    """Epochs that the schedule spans, where training ends before it: RecLoRA stops a schedule of five epochs after one."""
    fall_from: Literal["warmup", "start"] = "warmup"
    """Where the schedule's fall is counted from: the end of warm-up, or the first step of all (LAVIS's, so CoLLM's, LLaRA's)."""
    final_rate: Share = 0.0
    """Share of the learning rate that a linear or cosine schedule falls to."""
    warmup: Share = 0.0
    """Share of the schedule's steps over which the learning rate rises linearly to its full value."""
    warmup_steps: PositiveInt | None = None
    """The same as a number of steps, in place of ``warmup``."""
    warmup_from: Share | None = None
    """Share of the learning rate at the first step of warm-up; the first step after it has the full rate. Left out, the n-th of
    w steps has n/w of it."""
    clip: Rate | None = 1.0
    """Largest norm of the gradient."""

    @model_validator(mode="after")
    def _schedule_fits(self) -> "Optimisation":
        if self.warmup and self.warmup_steps:
            raise ValueError(
                f"warmup = {self.warmup} and warmup_steps = {self.warmup_steps} say the same thing twice; remove one"
            )
        if self.warmup_from is not None and not (self.warmup or self.warmup_steps):
            raise ValueError(f"warmup_from = {self.warmup_from} needs a warm-up; give warmup or warmup_steps")
        if self.final_rate and self.schedule == "constant":
            raise ValueError(
                f"final_rate = {self.final_rate} is where a schedule falls to, and schedule = 'constant' does not "
                "fall; choose 'linear' or 'cosine'"
            )
        return self


def learning_rate(config: Optimisation, step: int, span: int) -> float:
    """At ``step``, counted from 0, of a schedule that spans so many.

    In a warm-up of w steps the share of the full rate at step s is (s+1)/w, or, from r, r + (1-r)·s/w. After it, with
    f = (s-w)/(span-w), or s/span where the fall is counted from the start, a schedule that ends at e gives
    e + (1-e)·(1-f), or e + (1-e)·(1+cos πf)/2.
    """
    warm = config.warmup_steps or round(config.warmup * span)
    if step < warm:
        first = config.warmup_from
        return config.learning_rate * ((step + 1) / warm if first is None else first + (1.0 - first) * step / warm)
    gone = (step - warm) / (span - warm) if config.fall_from == "warmup" else step / span
    left = {"constant": 1.0, "linear": 1.0 - gone, "cosine": (1.0 + math.cos(math.pi * gone)) / 2.0}[config.schedule]
    return config.learning_rate * (config.final_rate + (1.0 - config.final_rate) * left)


def make_optimiser(learnt: Learnt, config: Optimisation, *, fused: bool) -> torch.optim.Optimizer:
    """For the trained parameters. Every group has its share of the learning rate by the name of "factor".

    Raises ConfigError for a key of ``groups`` that no trained parameter's name begins with.
    """
    own = _groups(learnt, config)
    members: dict[tuple[float, float], list[nn.Parameter]] = {}  # one for each setting: another group is another kernel
    for name, p in learnt.parameters.items():
        rate, decay = own[name].learning_rate, own[name].weight_decay
        factor = 1.0 if rate is None else rate / config.learning_rate
        decay = config.weight_decay if decay is None else decay
        members.setdefault((decay if p.ndim >= 2 or config.decay_vectors else 0.0, factor), []).append(p)
    groups = [
        {"params": members[decay, factor], "weight_decay": decay, "factor": factor}
        for decay, factor in sorted(members, reverse=True)
    ]
    kind = torch.optim.AdamW if config.optimiser == "adamw" else torch.optim.Adam
    return kind(groups, lr=config.learning_rate, betas=config.betas, fused=fused)


def _groups(learnt: Learnt, config: Optimisation) -> dict[str, Group]:
    """The group of every trained parameter; an empty one for those that no key of ``groups`` fits."""
    fitting = {name: [key for key in config.groups if f"{name}.".startswith(f"{key}.")] for name in learnt.parameters}
    for key in config.groups:
        if not any(key in keys for keys in fitting.values()):
            parts = sorted({name.partition(".")[0] for name in learnt.parameters})
            raise ConfigError(f"groups: '{key}' fits no trained parameter; their names begin with {', '.join(parts)}.")
    return {name: config.groups[max(keys, key=len)] if keys else Group() for name, keys in fitting.items()}
