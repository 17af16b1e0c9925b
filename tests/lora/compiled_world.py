"""Run as a program: every coupling under torch.compile, as users run it, without the checks that tests put on our functions.

Prints a line of JSON for each: how many graphs five batches of users took, and how far numbers and gradients are off.
"""

import json
import sys

import torch
from lora_world import EVERY, D, adapt, called, learnt, tiny_llama, tokens
from torch import Tensor

from lifelora.lora.coupling import Coupling


def some(seed: int) -> Tensor:
    return torch.randn(4, D, generator=torch.Generator().manual_seed(seed))


def off(ours: list[Tensor], theirs: list[Tensor]) -> float:
    return max((a - b).abs().max().item() for a, b in zip(ours, theirs, strict=True))


def inference(config: Coupling.Config) -> dict[str, float]:
    adapters = learnt(adapt(tiny_llama(), ("all-linear",), config), std=0.1)
    graphs: list[object] = []

    def count(graph: torch.fx.GraphModule, _: object) -> object:
        graphs.append(graph)
        return graph.forward

    model, worst = torch.compile(adapters.model, backend=count, fullgraph=True), 0.0
    with torch.no_grad():
        for seed in range(5):
            with adapters.scope(some(seed)):
                worst = max(worst, off([model(tokens(), use_cache=False).logits], [adapters.model(tokens()).logits]))
    return {"graphs": len(graphs), "logits_off": worst}


def gradients(config: Coupling.Config, backend: str | None) -> list[Tensor]:
    adapters = learnt(adapt(tiny_llama(), ("all-linear",), config), std=0.1)
    if backend is not None:
        for block in adapters.model.model.layers:
            block.compile(backend=backend, fullgraph=True)
    u_BD = some(0).requires_grad_()
    with adapters.scope(u_BD):
        adapters.model(tokens(), use_cache=False).logits.square().sum().backward()
    return [p.grad for p in adapters.parameters()] + ([u_BD.grad] if config.needs_user else [])


if __name__ == "__main__":
    for config in EVERY:
        torch._dynamo.reset()
        found, theirs = inference(config), gradients(config, None)
        found["gradients_off"] = off(gradients(config, "inductor"), theirs) / max(g.abs().max().item() for g in theirs)
        sys.stdout.write(json.dumps({"coupling": called(config)} | found) + "\n")
