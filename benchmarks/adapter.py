"""The adapters against PEFT's LoRA: time and peak memory of a training step, and requests per second of 64 users at once.

    python benchmarks/adapter.py                           every part on the CPU
    python benchmarks/adapter.py --part train --models tiny --rounds 4 --out /tmp/adapter.json
    python benchmarks/adapter.py --device cuda             every part on a GPU, with a model of 7B's shape

All models are random, and those of one table share the frozen backbone's tensors. They are measured in turn, in one process
and in one order and its reverse (a training step right beside PEFT's), and the figures are ratios of what stood side by side,
because the machine is noisy: on the CPU of CPU seconds, on a GPU of seconds up to its end of work. Memory is measured in a
fresh process for each variant. A part keeps what other parts, models and devices have left in the file of results.
"""

import argparse
import copy
import gc
import json
import math
import os
import platform
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import peft
import torch
import torch.nn.functional as F
import transformers
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, LlamaConfig

from lifelora.lora import (
    Adaptation,
    Adapters,
    Coupling,
    Experts,
    Full,
    Hydra,
    Identity,
    Meta,
    Static,
    personalise,
    summarise,
    write_peft_adapter,
)
from lifelora.lora.structure import Structure
from lifelora.seeds import derive, torch_generator

transformers.logging.set_verbosity_error()


@dataclass(frozen=True)
class Shape:
    """The size of a Llama, and of its batches."""

    layers: int
    width: int
    intermediate: int
    heads: int
    vocabulary: int
    rows: int = 4
    length: int = 256


SHAPES = {
    "tiny": Shape(4, 256, 688, 4, 4000),
    "base": Shape(12, 768, 2048, 12, 32000),
    "7b": Shape(32, 4096, 11008, 32, 32000, rows=8, length=1500),
    "stand-in": Shape(2, 64, 172, 4, 1000, rows=2, length=48),  # in the place of 7b, where there is no room for it
}
TARGETS = {
    "q,v": ("q_proj", "v_proj"),
    "all": ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
}
RANK, ALPHA, USER_WIDTH = 8, 16, 64
FROZEN, PEFT, PEFT_NARROW = "frozen", "peft", "peft, adapters in bf16"
COUPLINGS: dict[str, Coupling.Config] = {
    "identity": Identity.Config(rank=RANK, alpha=ALPHA),
    "static": Static.Config(rank=RANK, alpha=ALPHA),
    "experts": Experts.Config(rank=RANK, alpha=ALPHA, experts=4),
    "meta": Meta.Config(rank=RANK, alpha=ALPHA, loras=8),
    "meta, outputs": Meta.Config(rank=RANK, alpha=ALPHA, loras=8, merge="outputs"),
    "hydra": Hydra.Config(rank=RANK, alpha=ALPHA, heads=4),
    "hydra, token": Hydra.Config(rank=RANK, alpha=ALPHA, heads=4, gate="token"),
    "full": Full.Config(rank=RANK, alpha=ALPHA),
}
VARIANTS = (FROZEN, PEFT, *COUPLINGS)
LARGE_VARIANTS = (FROZEN, PEFT, PEFT_NARROW, "full", "experts", "meta")
REQUEST_LENGTH = 64
SERVED = ("full", "experts", "meta")
ROUNDS = {"tiny": 40, "base": 15, "7b": 5, "stand-in": 3, "serve": 15}
WARM_UP = 2
MIB = 1 << 20


def time_target(variant: str, targets: str) -> float | None:
    """The highest ratio to PEFT's step that is good enough; meta multiplies by eight LoRAs where PEFT has one."""
    if variant not in COUPLINGS:
        return None
    return 1.10 if variant.startswith("meta") else {"q,v": 1.00, "all": 0.97}[targets]


def memory_target(variant: str, targets: str) -> float | None:
    """The highest ratio to PEFT's peak that is good enough; on q,v there is little to save."""
    return 0.75 if variant in COUPLINGS and targets == "all" and not variant.startswith("meta") else None


SERVE_TARGETS = {"of no adapters": 0.97, "times peft mixed": 1.2, "times peft switching": 3.0}


Found = dict[str, Any]
"""Figures as JSON has them."""
Model = Any
"""One of transformers' or PEFT's, whose own methods are untyped."""


# What is measured


@dataclass(frozen=True)
class Case:
    """One model of a table; ``adapters`` where they are ours."""

    model: Model
    adapters: Adapters | None = None

    @property
    def ours(self) -> Adapters:
        """The adapters of a model that has ours."""
        assert self.adapters is not None
        return self.adapters

    def scope(self, u_BD: Tensor) -> AbstractContextManager[None]:
        return nullcontext() if self.adapters is None else self.adapters.scope(u_BD)

    @property
    def bytes(self) -> int:
        """Of all its tensors, those that it shares with other cases too."""
        coupling = [] if self.adapters is None else list(self.adapters.coupling.parameters())
        return sum(t.numel() * t.element_size() for t in (*self.model.parameters(), *self.model.buffers(), *coupling))


def backbone(shape: Shape, device: str, seed: int, dtype: torch.dtype = torch.float32) -> Model:
    """A random Llama, made where it stays."""
    torch.manual_seed(derive(seed, "backbone"))
    config = LlamaConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.width,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        max_position_embeddings=2048,
    )
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    return model.requires_grad_(False).train()


def sharing(model: Model) -> Model:
    """A copy of the modules around the same tensors, so that all cases of a table are in memory at once."""
    return copy.deepcopy(model, {id(t): t for t in (*model.parameters(), *model.buffers())})


def make(model: Model, variant: str, targets: str, seed: int) -> Case:
    """``model`` itself, as this variant has it."""
    if variant == FROZEN:
        return Case(model)
    if variant in (PEFT, PEFT_NARROW):
        config = peft.LoraConfig(r=RANK, lora_alpha=ALPHA, lora_dropout=0.0, target_modules=list(TARGETS[targets]))
        # PEFT keeps A and B in fp32 on a bf16 model unless told otherwise, as ours always does.
        return Case(peft.get_peft_model(model, config, autocast_adapter_dtype=variant == PEFT).train())
    adaptation = Adaptation(coupling=COUPLINGS[variant], targets=TARGETS[targets], dropout=0.0)
    adapters = personalise(model, adaptation, user_width=USER_WIDTH, generator=torch_generator(seed, "adapters"))
    return Case(model, adapters)


def draw(shape: Shape, rows: int, length: int, device: str, seed: int) -> tuple[Tensor, Tensor]:
    """Tokens, and a representation for each row."""
    generator = torch_generator(seed, "batch")
    tokens_BL = torch.randint(shape.vocabulary, (rows, length), generator=generator)
    return tokens_BL.to(device), torch.randn(rows, USER_WIDTH, generator=generator).to(device)


def step(case: Case, tokens_BL: Tensor, u_BD: Tensor) -> None:
    """Forward and backward, from u to the gradients of the adapters, and of the embeddings.

    Without these the lowest layers, and all of the frozen model, would have no backward to compare.
    """
    with torch.no_grad():
        x_BLI = case.model.get_input_embeddings()(tokens_BL)
    with case.scope(u_BD):
        out = case.model(inputs_embeds=x_BLI.requires_grad_(), use_cache=False, logits_to_keep=1)
        torch.autograd.backward(F.cross_entropy(out.logits[:, -1].float(), tokens_BL[:, 0]))
    for parameter in (*case.model.parameters(), *(case.adapters.parameters() if case.adapters else ())):
        parameter.grad = None


def seconds(call: Callable[[], object], device: str) -> float:
    """Of this process on the CPU, so that other work on the machine does not count; on a GPU until its work has ended."""
    if device == "cpu":
        began = time.process_time()
        call()
        return time.process_time() - began
    torch.cuda.synchronize()
    began = time.perf_counter()
    call()
    torch.cuda.synchronize()
    return time.perf_counter() - began


def in_turn(calls: dict[str, Callable[[], object]], rounds: int, device: str) -> dict[str, list[float]]:
    """Seconds of every call in every round, in one order and then in its reverse."""
    for call in calls.values():
        for _ in range(WARM_UP):
            call()
    names = list(calls)
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for round_ in range(rounds):
        gc.collect()  # here, and not within a measurement
        for name in names if round_ % 2 == 0 else reversed(names):
            taken[name].append(seconds(calls[name], device))
    return taken


def beside(
    calls: dict[str, Callable[[], object]], reference: str, rounds: int, device: str
) -> dict[str, list[tuple[float, float]]]:
    """Seconds of every call and of the reference right beside it, before it and after it in turn.

    Adjacent, because the machine's speed drifts within seconds, and a whole round of large steps takes many.
    """
    for call in calls.values():
        for _ in range(WARM_UP):
            call()
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    for round_ in range(rounds):
        gc.collect()  # here, and not within a measurement
        for name in calls:
            pair = [name, reference] if round_ % 2 == 0 else [reference, name]
            found = {which: seconds(calls[which], device) for which in pair}
            taken[name].append((found[name], found[reference]))
    return taken


def quartiles(values: list[float]) -> list[float]:
    """Lower quartile, median, upper quartile."""
    if len(values) < 2:
        return values * 3
    return statistics.quantiles(values, n=4, method="inclusive")


def ratio(above: Sequence[float], below: Sequence[float]) -> Found:
    """Of each round, so that what slowed a whole round is in both."""
    low, median, high = quartiles([a / b for a, b in zip(above, below, strict=True)])
    return {"median": round(median, 4), "quartiles": [round(low, 4), round(high, 4)]}


def judged(figure: float | None, target: float | None, better: str = "<=") -> Found:
    """The target beside a figure, and a word on both."""
    if target is None or figure is None:
        return {}
    reached = figure <= target if better == "<=" else figure >= target
    return {"target": f"{better} {target:.2f}", "verdict": "reached" if reached else "missed"}


# The parts


def wanted(args: argparse.Namespace) -> list[str]:
    """The variants asked for, and PEFT's, which they are measured against."""
    return [variant for variant in VARIANTS if variant in (PEFT, *(args.variants or VARIANTS))]


def train(name: str, targets: str, args: argparse.Namespace) -> Found:
    """Milliseconds of a step, and the ratio to PEFT's."""
    shape = SHAPES[name]
    model = backbone(shape, args.device, args.seed)
    cases = {variant: make(sharing(model), variant, targets, args.seed) for variant in wanted(args)}
    batch = draw(shape, shape.rows, shape.length, args.device, args.seed)
    rounds = args.rounds or ROUNDS[name]
    taken = beside({v: partial(step, case, *batch) for v, case in cases.items()}, PEFT, rounds, args.device)
    table: dict[str, Found] = {}
    for variant, case in cases.items():
        own, pefts = zip(*taken[variant], strict=True)
        time_ratio = ratio(own, pefts)
        table[variant] = {
            "milliseconds": round(statistics.median(own) * 1e3, 2),
            "ratio": time_ratio,
            **judged(time_ratio["median"], time_target(variant, targets)),
            **({"adapters": str(summarise(case.adapters))} if case.adapters else {}),
        }
    print_table(
        f"train step, {name}, {targets}, {rounds} rounds: time over PEFT's",
        [
            (v, f"{row['milliseconds']:.1f} ms", *spread(row["ratio"]), row.get("target", ""), row.get("verdict", ""))
            for v, row in table.items()
        ],
    )
    return {"rounds": rounds, "variants": table}


def memory(name: str, targets: str, args: argparse.Namespace) -> Found:
    """Peak memory of a step above the built model, each in a process of its own, and the ratio to PEFT's.

    "With the model" counts the model, too, and leaves out only what the imports took.
    """
    table: dict[str, Found] = {}
    for variant in wanted(args):
        command = [
            sys.executable,
            __file__,
            "--alone",
            variant,
            "--models",
            name,
            "--targets",
            targets,
            "--seed",
            str(args.seed),
            "--device",
            args.device,
            "--threads",
            str(args.threads),
        ]
        # Set before torch is imported: OpenMP's threads come with stacks and arenas of their own.
        run = subprocess.run(
            command, capture_output=True, text=True, check=False, env=os.environ | {"OMP_NUM_THREADS": str(args.threads)}
        )
        if run.returncode:
            raise SystemExit(f"{shlex.join(command)} ended with {run.returncode}:\n{run.stderr}")
        table[variant] = json.loads(run.stdout.splitlines()[-1])
    for variant, row in table.items():
        row["ratio"] = round(row["mib"] / table[PEFT]["mib"], 4)
        row |= judged(row["ratio"], memory_target(variant, targets))
        row["ratio_with_model"] = round(row["mib_with_model"] / table[PEFT]["mib_with_model"], 4)
    print_table(
        f"peak memory of a train step, {name}, {targets}: over PEFT's",
        [
            (
                v,
                f"{row['mib']:,.0f} MiB",
                f"{row['ratio']:.3f}",
                row.get("target", ""),
                row.get("verdict", ""),
                f"with the model {row['mib_with_model']:,.0f} MiB",
                f"{row['ratio_with_model']:.3f}",
            )
            for v, row in table.items()
        ],
    )
    return {"variants": table}


def alone(args: argparse.Namespace) -> None:
    """What ``memory`` runs in a fresh process, where every variant has imported the same."""
    name, targets = args.models[0], args.targets[0]
    shape, imported = SHAPES[name], resident("VmRSS")
    case = make(backbone(shape, args.device, args.seed), args.alone, targets, args.seed)
    batch = draw(shape, shape.rows, shape.length, args.device, args.seed)
    gc.collect()
    if args.device == "cpu":
        built = resident("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew: making the model is no step
    else:
        imported, built = 0.0, torch.cuda.memory_allocated() / MIB
        torch.cuda.reset_peak_memory_stats()
    for _ in range(3):
        step(case, *batch)
    peak = resident("VmHWM") if args.device == "cpu" else torch.cuda.max_memory_allocated() / MIB
    found = {"mib": peak - built, "mib_with_model": peak - imported, "imported": imported, "built": built, "peak": peak}
    found = {name: round(value, 1) for name, value in found.items()}
    print(json.dumps(found))


def resident(field: str) -> float:
    """MiB of this process: VmRSS now, VmHWM at its highest."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field + ":"))


@torch.no_grad()
def serve(args: argparse.Namespace) -> Found:
    """Requests per second of many users, one request each."""
    shape, device, users = SHAPES["tiny"], args.device, args.users
    model = backbone(shape, device, args.seed).eval()
    tokens_BL, u_BD = draw(shape, users, REQUEST_LENGTH, device, args.seed)
    names = [str(user) for user in range(users)]
    cases = {variant: make(sharing(model), variant, "q,v", args.seed) for variant in SERVED}
    generator = torch_generator(args.seed, "as if trained")
    for case in cases.values():
        # B = 0 and gates without a last layer give all users the backbone: as if trained, to see whose LoRA is whose.
        for parameter in case.ours.parameters():
            parameter.add_((torch.randn(parameter.shape, generator=generator) * 0.05).to(device))
        case.ours.coupling.eval()
    kept = {variant: coupled(case, u_BD) for variant, case in cases.items()}
    full = cases["full"]

    with tempfile.TemporaryDirectory() as folder:  # the same LoRA of each user for PEFT
        for user in range(users):
            write_peft_adapter(Path(folder) / names[user], full.ours, u_BD[user : user + 1])
        began = time.process_time()
        theirs = peft.PeftModel.from_pretrained(sharing(model), Path(folder) / names[0], adapter_name=names[0])
        for name in names[1:]:
            theirs.load_adapter(Path(folder) / name, adapter_name=name)
        loading = time.process_time() - began
        tensors = Path(folder, names[0], "adapter_model.safetensors").read_bytes()
    theirs = theirs.to(device).eval()
    header = int.from_bytes(tensors[:8], "little")  # of the file: its length, then the names, then the numbers
    lora_bytes = len(tensors) - 8 - header

    def logits(one: Model, rows_BL: Tensor, **more: object) -> Tensor:
        logits_BV: Tensor = one(input_ids=rows_BL, use_cache=False, logits_to_keep=1, **more).logits[:, -1]
        return logits_BV

    def held(variant: str) -> Tensor:
        with cases[variant].ours.holding(kept[variant]):
            return logits(cases[variant].model, tokens_BL)

    def mixed() -> Tensor:
        return logits(theirs, tokens_BL, adapter_names=names)

    def one_by_one() -> Tensor:
        found = []
        for user in range(users):
            with full.scope(u_BD[user : user + 1]):
                found.append(logits(full.model, tokens_BL[user : user + 1]))
        return torch.cat(found)

    def switching() -> Tensor:
        found = []
        for user, name in enumerate(names):
            theirs.set_adapter(name)
            found.append(logits(theirs, tokens_BL[user : user + 1]))
        return torch.cat(found)

    nobodys_BV, ours, theirs_BV = logits(model, tokens_BL), held("full"), mixed()
    same = {
        "peft_mixed": (ours - theirs_BV).abs().max().item(),
        "peft_switching": (ours - switching()).abs().max().item(),
        "ours_one_by_one": (ours - one_by_one()).abs().max().item(),
        "no_adapters": (ours - nobodys_BV).abs().max().item(),
        "somebody_else": (ours - held_of_next(full, kept["full"], tokens_BL, logits)).abs().max().item(),
    }
    calls: dict[str, Callable[[], object]] = {
        "no adapters": lambda: logits(model, tokens_BL),
        **{v: partial(held, v) for v in SERVED},
        "peft mixed": mixed,
        "full, one by one": one_by_one,
        "peft switching": switching,
    }
    rounds = args.rounds or ROUNDS["serve"]
    taken = in_turn(calls, rounds, device)
    close = beside({name: calls[name] for name in ("no adapters", *SERVED)}, "no adapters", rounds, device)
    table: dict[str, Found] = {}
    for name in calls:
        row: Found = {"requests_per_second": round(users / statistics.median(taken[name]), 1)}
        for against, other in zip(SERVE_TARGETS, ("no adapters", "peft mixed", "peft switching"), strict=True):
            row[against] = ratio(taken[other], taken[name])  # of rates, hence the other way round
            if other == "no adapters" and name in close:  # a few per cent: only side by side can they be seen
                own, bare = zip(*close[name], strict=True)
                row[against] = ratio(bare, own)
            if name in SERVED:
                row[against] |= judged(row[against]["median"], SERVE_TARGETS[against], ">=")
        table[name] = row
    table["full, one by one"]["times peft switching"] |= {"note": "one row each on both sides"}
    sizes = {
        "full LoRA": lora_bytes,
        **{f"C(u) of {v}": kept[v].bytes_per_row for v in SERVED},
        "u": u_BD[0].numel() * u_BD.element_size(),
    }
    for against in SERVE_TARGETS:
        print_table(
            f"serve {users} people, tiny, q,v, {rounds} rounds: rate, {against}",
            [
                (
                    name,
                    f"{row['requests_per_second']:.1f} /s",
                    *spread(row[against]),
                    row[against].get("target", ""),
                    row[against].get("verdict", ""),
                )
                for name, row in table.items()
            ],
        )
    print_table("bytes kept of one person", [(name, f"{size:,}") for name, size in sizes.items()])
    print_table("largest difference between logits of 'full' and of", [(k, f"{v:.2e}") for k, v in same.items()])
    return {
        "rounds": rounds,
        "rates": table,
        "bytes_per_user": sizes,
        "logits_differ_by": same,
        "seconds_to_load_a_peft_adapter": round(loading / users, 4),
    }


def coupled(case: Case, u_BD: Tensor) -> Structure:
    """C(u) of every user."""
    C = case.ours.couplings(u_BD)
    assert C is not None, "these couplings know the user"
    return C


def held_of_next(case: Case, C: Structure, tokens_BL: Tensor, logits: Callable[..., Tensor]) -> Tensor:
    """All users with the coupling of the next user: how far apart users are."""
    with case.ours.holding(type(C)(C.tensor.roll(1, dims=1))):
        return logits(case.model, tokens_BL)


def large(targets: str, args: argparse.Namespace) -> Found:
    """Time, peak memory and MFU of a step in bf16 at 7B's shape."""
    shape = SHAPES[args.large_shape]
    model = backbone(shape, args.device, args.seed, torch.bfloat16)
    rows = args.micro_batch or shape.rows
    batch = draw(shape, rows, shape.length, args.device, args.seed)
    flops = useful_flops(shape, model, rows)
    cases = {variant: make(sharing(model), variant, targets, args.seed) for variant in LARGE_VARIANTS}
    peaks: dict[str, float | None] = {}
    for variant, case in cases.items():
        if args.checkpointing and case.adapters:
            case.adapters.enable_checkpointing()
        elif args.checkpointing:
            case.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        peaks[variant] = peak_of_step(case, batch, args.device)
    fitting = {variant: case for variant, case in cases.items() if peaks[variant] != math.inf}
    rounds = args.rounds or ROUNDS[args.large_shape]
    taken = in_turn({v: partial(step, case, *batch) for v, case in fitting.items()}, rounds, args.device)
    table: dict[str, Found] = {}
    for variant in cases:
        if variant not in taken:
            table[variant] = {"out_of_memory": True}
            continue
        median, peak, peft_peak = statistics.median(taken[variant]), peaks[variant], peaks.get(PEFT)
        table[variant] = {
            "milliseconds": round(median * 1e3, 2),
            "samples_per_second": round(rows / median, 3),
            "mib": None if peak is None else round(peak, 1),
            "mfu": round(flops / median / (args.peak_tflops * 1e12), 4),
        }
        if PEFT in taken:
            against = ratio(taken[variant], taken[PEFT])
            table[variant] |= {"ratio": against, **judged(against["median"], time_target(variant, targets))}
        if PEFT in taken and peak and peft_peak:
            over = round(peak / peft_peak, 4)
            table[variant]["memory"] = {"ratio": over, **judged(over, memory_target(variant, targets))}
    print_table(
        f"train step, {args.large_shape} in bf16, {targets}, {rows} x {shape.length} tokens, "
        f"checkpointing {'on' if args.checkpointing else 'off'}, {rounds} rounds: over PEFT's",
        [
            (v, "out of memory")
            if "out_of_memory" in row
            else (
                v,
                f"{row['milliseconds']:.1f} ms",
                f"{row['mib']:,.0f} MiB" if row["mib"] else "",
                f"MFU {row['mfu']:.1%}",
                *(spread(row["ratio"]) if "ratio" in row else ("", "")),
                row.get("target", ""),
                row.get("verdict", ""),
                *(
                    (f"memory {row['memory']['ratio']:.3f}", row["memory"].get("target", ""), row["memory"].get("verdict", ""))
                    if "memory" in row
                    else ("", "", "")
                ),
            )
            for v, row in table.items()
        ],
    )
    return {
        "rounds": rounds,
        "shape": vars(shape) | {"rows": rows},
        "checkpointing": args.checkpointing,
        "flops_of_a_step": flops,
        "peak_tflops": args.peak_tflops,
        "variants": table,
    }


def peak_of_step(case: Case, batch: tuple[Tensor, Tensor], device: str) -> float | None:
    """MiB on the GPU as if this case were alone on it, infinite where it does not fit; None on the CPU."""
    if device == "cpu":
        return None
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    try:
        step(case, *batch)
    except torch.OutOfMemoryError:
        for parameter in (*case.model.parameters(), *(case.adapters.parameters() if case.adapters else ())):
            parameter.grad = None
        return math.inf
    # The others' adapters lie there too: what the step added, and what this case itself is made of.
    return (torch.cuda.max_memory_allocated() - before + case.bytes) / MIB


def useful_flops(shape: Shape, model: nn.Module, rows: int) -> float:
    """FLOPs of a step that has to be made, for MFU; what checkpointing runs again does not count.

        forward     2 · parameters · tokens             W x in every linear layer
        backward    2 · parameters · tokens             Wᵀ dy; a frozen W has no gradient of its own
        attention   3 · 4 · L² · width · layers / 2     q kᵀ and p v, twice as much backward; half of it, being causal

    The LM head runs at one position of each row. The adapters are left out of it (under 1 % with r = 8 on q, v).
    """
    head = shape.vocabulary * shape.width
    linear = sum(parameter.numel() for name, parameter in model.named_parameters() if parameter.ndim == 2) - 2 * head
    tokens = rows * shape.length
    attention = 3 * 4 * shape.length**2 * shape.width * shape.layers / 2
    return 4 * linear * tokens + 4 * head * rows + attention * rows


# Paper


def spread(found: Found) -> tuple[str, str]:
    """Median and quartiles of a ratio, for a table."""
    low, high = found["quartiles"]
    return f"{found['median']:.3f}", f"[{low:.3f} {high:.3f}]"


def print_table(title: str, rows: list[tuple[str, ...]]) -> None:
    """Columns as wide as they need; the first to the left, the others to the right."""
    columns = max(len(row) for row in rows)
    rows = [(*row, *[""] * (columns - len(row))) for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(columns)]
    print(f"\n{title}")
    for first, *rest in rows:
        cells = [first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True))]
        print(("  " + "  ".join(cells)).rstrip(), flush=True)


def provenance(args: argparse.Namespace) -> Found:
    """By whom, of what and where."""
    here = Path(__file__).parent

    def git(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["git", *words], cwd=here, capture_output=True, text=True, check=False)

    cpu = (
        [
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ]
        if Path("/proc/cpuinfo").exists()
        else []
    )
    return {
        "command": shlex.join(["python", *sys.argv]),
        "seed": args.seed,
        "threads": args.threads,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "git": git("rev-parse", "HEAD").stdout.strip() or None,
        "changed_since": bool(git("status", "--porcelain", "--", "../src", Path(__file__).name).stdout.strip()),
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in ("lifelora", "torch", "transformers", "peft")},
        "machine": {
            "system": platform.platform(),
            "cpu": cpu[0] if cpu else platform.processor(),
            "cores": os.cpu_count(),
            "gpu": torch.cuda.get_device_name() if args.device == "cuda" else None,
        },
    }


def keep(out: Path, part: str, key: str, found: Found) -> None:
    """Into the file of results, beside what is there."""
    results = json.loads(out.read_text()) if out.exists() else {}
    results.setdefault(part, {})[key] = found
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--part",
        choices=["train", "memory", "serve", "large", "all"],
        default="all",
        help="'large' is 7B's shape; 'all' has it on a GPU only",
    )
    parser.add_argument(
        "--models",
        nargs="+",
        choices=["tiny", "base"],
        default=["tiny", "base"],
        help="of 'train'; 'memory' measures base unless only tiny is named",
    )
    parser.add_argument("--targets", nargs="+", choices=TARGETS, default=list(TARGETS))
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, help="of 'train' and 'memory', beside PEFT's (default: all)")
    parser.add_argument("--users", type=int, default=64, help="of 'serve'")
    parser.add_argument("--rounds", type=int, help=f"default: {ROUNDS}")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "adapter.json")
    parser.add_argument("--large-shape", choices=["7b", "stand-in"], default="7b")
    parser.add_argument("--micro-batch", type=int, help="rows of a step of 'large'")
    parser.add_argument("--checkpointing", action="store_true", help="gradient checkpointing in 'large'")
    parser.add_argument("--peak-tflops", type=float, default=790, help="of the GPU on matrix products in bf16, for MFU")
    parser.add_argument("--alone", choices=VARIANTS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.alone:
        alone(args)
        return
    parts = [args.part] if args.part != "all" else ["train", "memory", "serve", *(["large"] if args.device == "cuda" else [])]
    run = provenance(args)
    for targets in args.targets:
        if "train" in parts:
            for name in args.models:
                keep(args.out, "train", f"{args.device}, {name}, {targets}", train(name, targets, args) | {"run": run})
                gc.collect()
        if "memory" in parts:
            name = "base" if "base" in args.models else "tiny"
            keep(args.out, "memory", f"{args.device}, {name}, {targets}", memory(name, targets, args) | {"run": run})
        if "large" in parts:
            key = f"{args.device}, {args.large_shape}, {targets}, checkpointing {'on' if args.checkpointing else 'off'}"
            keep(args.out, "large", key, large(targets, args) | {"run": run})
            gc.collect()
    if "serve" in parts:
        keep(args.out, "serve", f"{args.device}, tiny, q,v", serve(args) | {"run": run})


if __name__ == "__main__":
    main()
