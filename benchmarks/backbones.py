"""What a language model takes on a small machine by how it is loaded: speed, memory, and how far its answers move.

    python benchmarks/backbones.py --json FILE             SmolLM2-135M's shape with random weights, some minutes
    python benchmarks/backbones.py --path FOLDER           real weights: only of these do differences of p(yes) say much
    python benchmarks/backbones.py --ways fp32 bf16 int8

Ways, each in the place of the one before, on one thread. The first is what the others are compared with:

    fp32          as it is
    bf16          dtype = "bf16"
    int8          quantization = "int8"
    layers        layers = half of them
    layers-int8   both
    compile       torch.compile; no key of a recipe: after four minutes on one core it was not through its first steps
    dynamic       torch.ao's dynamic quantisation by output channel; no key, for a prompt's answer depends on its company
    8-bit         bitsandbytes' LLM.int8, quantization = "8-bit", which also runs on a CPU

Asked yes or no with prompts of ten films each, as ReLLa asks; LoRA of rank 8 on q and v. Tokens a second are those of the CPU's
own seconds, so other work on the machine counts less. ``saved``: what forward keeps for backward. ``same order``: of all pairs of
prompts, the share that p(yes) orders as fp32 does.
"""

import argparse
import contextlib
import gc
import json
import os
import platform
import shlex
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from trees import SIZES, cut, log_and_builder, made_model

from lifelora.llm.backbone import Pretrained, load
from lifelora.llm.lighter import first_layers, in_eight_bits
from lifelora.llm.personal import PersonalBatch
from lifelora.llm.yes_no import YesNoLM
from lifelora.lora import Adaptation, Identity, personalise
from lifelora.prompts.wording.yes_no import Plain
from lifelora.prompts.yes_no import YesNoBuilder
from lifelora.run.learning import saved_for_backward
from lifelora.seeds import torch_generator
from prompts import made_log

WAYS = ("fp32", "bf16", "int8", "layers", "layers-int8", "compile", "dynamic", "8-bit")
USUAL = WAYS[:5]
SHOWN = 10
Found = dict[str, Any]
"""Figures as JSON has them."""


def every_linear(model: nn.Module, make: Callable[[nn.Linear], nn.Module]) -> None:
    """Put something in the place of all linear layers but the head."""
    decoder: Any = model.get_decoder()  # type: ignore[operator]
    for name in [name for name, module in decoder.named_modules() if type(module) is nn.Linear]:
        parent, _, child = name.rpartition(".")
        setattr(decoder.get_submodule(parent), child, make(decoder.get_submodule(name)))


def dynamic(linear: nn.Linear) -> nn.Module:
    """torch.ao's, a scale for each output channel and one for all tokens of a batch."""
    from torch.ao.quantization import per_channel_dynamic_qconfig, quantize_dynamic

    how = {nn.Linear: per_channel_dynamic_qconfig}
    made: nn.Module = quantize_dynamic(nn.Sequential(linear), how)[0]  # type: ignore[no-untyped-call]
    return made


def eight_bit(linear: nn.Linear) -> nn.Module:
    """bitsandbytes'."""
    import bitsandbytes

    made = bitsandbytes.nn.Linear8bitLt(
        linear.in_features, linear.out_features, bias=False, has_fp16_weights=False, threshold=6.0
    )
    made.weight = bitsandbytes.nn.Int8Params(linear.weight.data.half(), requires_grad=False, has_fp16_weights=False)
    return made.to("cpu")  # type: ignore[no-any-return]


def lightened(model: Any, way: str) -> Any:
    """The model in one of the ways."""
    if way.startswith("layers"):
        first_layers(model, max(1, int(model.config.num_hidden_layers) // 2))
    if way.endswith("int8"):
        in_eight_bits(model)
    if way == "bf16":
        model.to(torch.bfloat16)
    if way == "dynamic":
        every_linear(model, dynamic)
    if way == "8-bit":
        every_linear(model, eight_bit)
    if way == "compile":
        model.forward = torch.compile(model.forward, dynamic=True)
    return model


class Asked:
    """Prompts, and what is found of a model that is asked them."""

    def __init__(self, path: Path | None, size: str, prompts: int, learnt: int, seed: int) -> None:
        self.path, self.size, self.seed, self.learnt = path, size, seed, learnt
        with tempfile.TemporaryDirectory() as folder:
            if path is None:
                dataset, self.builder = log_and_builder(100, seed, Path(folder))
            else:
                dataset = made_log(100, 3883, seed, Path(folder))
                tokenizer = load(Pretrained(path=str(path)), torch.device("cpu")).tokenizer
                self.builder = YesNoBuilder.make(dataset, Plain(), tokenizer, max_tokens=1024)
            rows = np.random.default_rng(seed).choice(dataset.samples["test"], prompts, replace=False)
            targets = dataset.targets(np.sort(rows))
            made = self.builder.build(targets, *dataset.history(targets, SHOWN))
            label_B = torch.from_numpy(targets.label_B.astype(np.float32))
        self.batch = PersonalBatch(made, torch.zeros(prompts, 0), label_B)

    def model(self) -> Any:
        """The model in fp32."""
        if self.path is None:
            return made_model(self.size, self.seed)
        return load(Pretrained(path=str(self.path)), torch.device("cpu")).model

    def found(self, way: str) -> tuple[Found, Float[Tensor, "B"]]:
        """Speed and memory of a way, and what it says of each prompt."""
        model = lightened(self.model(), way)
        gc.collect()
        weights = sum(t.untyped_storage().nbytes() for t in {t.data_ptr(): t for t in every_tensor(model)}.values())
        adaptation = Adaptation(coupling=Identity.Config(rank=8), targets=("q_proj", "v_proj"), dropout=0.0)
        adapters = personalise(model, adaptation, generator=torch_generator(self.seed, "adapters"))
        lm = YesNoLM(model, adapters, self.builder.answers)
        rows = slice(0, self.learnt)
        assert self.batch.label_B is not None
        prompts = cut(self.batch.prompts, rows)  # type: ignore[arg-type]
        part = replace(self.batch, prompts=prompts, user_BD=self.batch.user_BD[rows], label_B=self.batch.label_B[rows])
        two = replace(part, prompts=cut(prompts, slice(0, 2)), user_BD=part.user_BD[:2], label_B=part.label_B[:2])  # type: ignore[index]
        lm.eval()
        told: Found = {"weights_mib": round(weights / 2**20)}
        with torch.inference_mode():
            _, told["first_seconds"] = timed(lambda: lm.score(two))
            p_B, seconds = timed(lambda: lm.score(self.batch))
        told["forward"] = round(self.batch.prompts.tokens_BL.numel() / seconds)  # type: ignore[union-attr]

        def step(batch: PersonalBatch) -> None:
            with lm.scope(batch):
                lm.loss(batch).backward()  # type: ignore[no-untyped-call]

        if way != "dynamic":  # which has no backward
            lm.train()
            saved, _ = saved_for_backward(lm, lambda: step(two))
            _, seconds = timed(lambda: step(part))
            told["training"] = round(prompts.tokens_BL.numel() / seconds)
            told["saved_kib_a_token"] = round(saved / two.prompts.tokens_BL.numel() / 1024)  # type: ignore[union-attr]
        return told, p_B.float()


def every_tensor(module: nn.Module) -> list[Tensor]:
    """Parameters and buffers, also those that torch.ao packs away."""
    modules: list[Any] = list(module.modules())
    packed = [m.weight().int_repr() for m in modules if callable(getattr(m, "weight", None)) and not isinstance(m.weight, Tensor)]
    return [*module.parameters(), *module.buffers(), *packed]


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """Seconds of the CPU."""
    began = time.process_time()
    result = work()
    return result, round(time.process_time() - began, 3)


def same_order(one_B: Float[Tensor, "B"], other_B: Float[Tensor, "B"]) -> float:
    """The share of pairs in the same order."""
    first, second = torch.triu_indices(len(one_B), len(one_B), offset=1)
    return float((torch.sign(one_B[first] - one_B[second]) == torch.sign(other_B[first] - other_B[second])).double().mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--path", type=Path, help="a folder in Hugging Face's layout; by default the weights are random")
    parser.add_argument("--size", choices=SIZES, default="smollm2-135m", help="the shape of random weights")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(USUAL))
    parser.add_argument("--prompts", type=int, default=16)
    parser.add_argument("--learnt", type=int, default=2, help="prompts of a step of training")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="a file for the results; what other models left in it stays")
    args = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    asked, first, told = Asked(args.path, args.size, args.prompts, args.learnt, args.seed), None, Found()
    for way in args.ways:
        if way == "8-bit" and find_spec("bitsandbytes") is None:
            continue
        found, p_B = asked.found(way)
        first = p_B if first is None else first
        found |= {"p_moves_by": round(float((p_B - first).abs().mean()), 4), "same_order": round(same_order(p_B, first), 3)}
        told[way] = found
        print(f"{way}: {found}", flush=True)
    told["p_yes"] = {"spread": round(float(first.std()), 4)} if first is not None else {}
    told["run"] = {
        "command": shlex.join(["python", *sys.argv]),
        "tokens": asked.batch.prompts.tokens_BL.numel(),  # type: ignore[union-attr]
        "seed": args.seed,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in ("lifelora", "torch", "transformers")},
        "cpu": cpu(),
        "load": round(os.getloadavg()[0], 1),
    }
    if args.json:
        results = json.loads(args.json.read_text()) if args.json.exists() else {}
        results[args.size if args.path is None else args.path.name] = told
        args.json.write_text(json.dumps(results, indent=1) + "\n")


def cpu() -> Found:
    """Its name, and which of the instructions it has that fewer bits gain by."""
    with contextlib.suppress(OSError):
        lines = dict(line.split(":", 1) for line in Path("/proc/cpuinfo").read_text().splitlines() if ":" in line)
        told = {name.strip(): value.strip() for name, value in lines.items()}
        flags = ("avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8")
        return {"name": told.get("model name", ""), "has": [flag for flag in flags if flag in told.get("flags", "").split()]}
    return {"name": platform.processor()}


if __name__ == "__main__":
    main()
