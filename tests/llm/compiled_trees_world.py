"""Run as a program: trees under torch.compile, as users run it, without the checks that tests put on our functions.

Prints a line of JSON: the nodes of all graphs, and how far the loss and the gradients of a training step are off.
"""

import json
import sys

import torch
from families_world import tiny
from test_trees_exact import gradients, personal

from lifelora.llm.trees.ready import ready
from lifelora.lora.coupling import Full


def main() -> None:
    torch.manual_seed(0)
    model = tiny("llama")
    ready(model)
    lm, batch, adapters = personal(model, Full.Config(rank=4), "prompt")
    loss, plain = gradients(lm, batch, adapters)
    nodes: list[int] = []

    def count(graph: torch.fx.GraphModule, _: object) -> object:
        nodes.append(len(graph.graph.nodes))
        return graph.forward

    model.compile(backend=count)
    again, compiled = gradients(lm, batch, adapters)
    off = max(float((one - other).norm() / other.norm()) for one, other in zip(compiled, plain, strict=True))
    sys.stdout.write(json.dumps({"nodes": sum(nodes), "loss_off": abs(again / loss - 1), "gradients_off": off}) + "\n")


if __name__ == "__main__":
    main()
