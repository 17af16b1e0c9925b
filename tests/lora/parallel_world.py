"""Run under torchrun: two processes (gloo) train a personal model by DDP or FSDP2; rank 0 prints the losses as JSON.

With one process and the way "alone" it trains on the whole batch: what the two must equal.
"""

import json
import os
import sys

import torch
import torch.distributed as dist
from lora_world import D, adapt, learnt, tiny_llama
from torch import Tensor, nn
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.nn.parallel import DistributedDataParallel

from lifelora.lora.adapters import Adapters
from lifelora.lora.coupling import Coupling, Experts, Full, Hydra, Meta

COUPLINGS: list[Coupling.Config] = [
    Full.Config(rank=4),
    Experts.Config(rank=4, experts=2),
    Meta.Config(rank=2, loras=3, gate_dropout=0.0),
    Hydra.Config(rank=2, heads=3, gate="token"),
]
ROWS = 4


def batch(step: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(step)
    return torch.randint(1, 50, (ROWS, 7), generator=generator), torch.randn(ROWS, D, generator=generator)


def train(adapters: Adapters, model: nn.Module, coupling: nn.Module, rank: int, world: int) -> list[float]:
    optimiser = torch.optim.AdamW(adapters.parameters(), lr=1e-2)
    losses = []
    for step in range(4):
        tokens_BL, u_BD = (whole[rank::world] for whole in batch(step))
        with adapters.holding(coupling(u_BD) if adapters.coupling.config.needs_user else None):
            loss = model(tokens_BL, labels=tokens_BL, use_cache=False).loss
            loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        mean = loss.detach().float() / world
        if world > 1:
            dist.all_reduce(mean)
        losses.append(mean.item())
    return losses


def run(way: str, config: Coupling.Config, rank: int, world: int) -> list[float]:
    adapters = learnt(adapt(tiny_llama(), ("all-linear",), config), std=0.1)
    model, coupling = adapters.model.train(), adapters.coupling
    if "checkpointing" in way:
        adapters.enable_checkpointing()
    if way.startswith("ddp"):
        model = DistributedDataParallel(model)
        # C(u) is computed before the model's forward, so the coupling is a module of its own to data parallelism.
        coupling = DistributedDataParallel(coupling) if config.needs_user else coupling
        if not config.needs_user:  # used inside the model's forward, but no part of the model
            for parameter in adapters.coupling.parameters():
                parameter.register_post_accumulate_grad_hook(lambda p: dist.all_reduce(p.grad.div_(world)))
    elif way.startswith("fsdp"):
        policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16) if "bf16" in way else MixedPrecisionPolicy()
        for block in model.model.layers:
            fully_shard(block, mp_policy=policy)
        fully_shard(model, mp_policy=policy)
        if config.needs_user:
            fully_shard(coupling)
        else:
            for parameter in adapters.coupling.parameters():
                parameter.register_post_accumulate_grad_hook(lambda p: dist.all_reduce(p.grad.div_(world)))
    return train(adapters, model, coupling, rank, world)


def main() -> None:
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world > 1:
        dist.init_process_group("gloo")
    rank = dist.get_rank() if world > 1 else 0
    found = {f"{way} {config.kind}": run(way, config, rank, world) for way in sys.argv[1:] for config in COUPLINGS}
    if rank == 0:
        sys.stdout.write(json.dumps(found) + "\n")
        sys.stdout.flush()
    if world > 1:
        dist.barrier()  # a process that leaves early can take the others' connections with it
        dist.destroy_process_group()
        # Caches of DTensor hold FSDP's meshes, so gloo's threads outlive their group. An interpreter that is taken down
        # under them can abort, on a busy machine, so it is left as it is.
        os._exit(0)


if __name__ == "__main__":
    main()
