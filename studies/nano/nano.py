"""The size of the nano LM: seconds to pre-train, loss on held-back text, and AUC of reading retrieved behaviours untuned.

python studies/nano/nano.py --sizes 64x2 64x4 128x2 --out studies/nano/results.json
"""

import argparse
import json
import tempfile
import time
from datetime import date
from pathlib import Path

import numpy as np
import torch

from lifelora.data.dataset import Targets
from lifelora.data.prepare import Rules, prepare
from lifelora.data.sources.simulated import Simulated
from lifelora.evaluation.metrics import auc
from lifelora.llm.backbone import Backbone, Pretrained, load
from lifelora.llm.nano import Nano, pretrain
from lifelora.prompts.wording.yes_no import Plain
from lifelora.prompts.yes_no import YesNoBuilder
from lifelora.retrieval.select import Selector
from lifelora.retrieval.similar import MostSimilar
from lifelora.vectors.base import Tools
from lifelora.vectors.encode import HiddenStates

CPU = torch.device("cpu")


@torch.inference_mode()
def untuned_auc(backbone: Backbone, builder: YesNoBuilder, selector: Selector, targets: Targets) -> float:
    """AUC of P(yes) before any tuning, on ``targets``."""
    chosen_NK, mask_NK = selector.select(builder.dataset, targets)
    margins = []
    for start in range(0, len(targets), 64):
        part = slice(start, start + 64)
        prompts = builder.build(targets.at(part), chosen_NK[part], mask_NK[part])
        position_BL = (prompts.mask_BL.long().cumsum(dim=1) - 1).clamp(min=0)
        logits_BV = backbone.model(
            input_ids=prompts.tokens_BL, attention_mask=prompts.mask_BL.long(), position_ids=position_BL, logits_to_keep=1
        ).logits[:, -1]
        margins.append(logits_BV[:, builder.answers.yes] - logits_BV[:, builder.answers.no])
    return auc(targets.label_B, torch.sigmoid(torch.cat(margins)).double().numpy())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", nargs="+", default=["64x2", "64x4", "128x2"], metavar="WIDTHxLAYERS")
    parser.add_argument("--histories", type=float, default=0.35)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--samples", type=int, default=2000, help="validation samples")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    results = []
    with tempfile.TemporaryDirectory() as temporary:
        dataset = prepare(Simulated().read(), Rules(), Path(temporary) / "prepared", "the simulated world")
        rows = np.asarray(dataset.samples["valid"])  # a size is chosen on validation samples, like everything else
        targets = dataset.targets(rows[np.linspace(0, len(rows) - 1, arguments.samples).astype(np.int64)])
        for size in arguments.sizes:
            width, layers = map(int, size.split("x"))
            training = Nano().training.model_copy(update={"epochs": arguments.epochs})
            config = Nano(width=width, layers=layers, histories=arguments.histories, training=training)
            folder = Path(temporary) / size
            folder.mkdir()
            began, cpu = time.perf_counter(), time.process_time()
            pretrain(config, dataset, folder, arguments.seed, device=CPU, progress=True)
            seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - cpu
            backbone = load(Pretrained(path=str(folder)), CPU)
            vectors = HiddenStates().of_items(dataset, Tools(model=backbone.model, tokenizer=backbone.tokenizer))
            builder = YesNoBuilder.make(dataset, Plain(), backbone.tokenizer, 1024)
            selector = MostSimilar(MostSimilar.Config(k=10), vectors.vectors_NE)
            history = json.loads((folder / "training" / "history.json").read_text())
            about = json.loads((folder / "about.json").read_text())
            results.append(
                {
                    "size": size,
                    "parameters": about["parameters"],
                    "tokens_per_epoch": about["tokens"],
                    "seconds": round(seconds, 1),
                    "cpu_seconds": round(cpu_seconds, 1),
                    "held_back_loss": round(history["evaluations"][history["best"]]["metrics"]["loss"], 4),
                    "untuned_auc_similar_10": round(untuned_auc(backbone, builder, selector, targets), 4),
                }
            )
            print(results[-1], flush=True)
    if arguments.out:
        arguments.out.write_text(
            json.dumps(
                {
                    "command": "python studies/nano/nano.py --sizes "
                    + " ".join(arguments.sizes)
                    + f" --histories {arguments.histories} --epochs {arguments.epochs} --seed {arguments.seed}",
                    "date": date.today().isoformat(),
                    "seed": arguments.seed,
                    "n": len(targets),
                    "threads": torch.get_num_threads(),
                    "results": results,
                },
                indent=1,
            )
            + "\n"
        )


if __name__ == "__main__":
    main()
