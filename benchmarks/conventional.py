"""Conventional models: training throughput on random rows, and how well they do on a real log.

    python benchmarks/conventional.py throughput --models din sasrec
    python benchmarks/conventional.py accuracy --data FOLDER/ml-1m --out benchmarks/results/ml-1m-conventional.json
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from lifelora.conventional import build
from lifelora.conventional.autoint import AutoInt
from lifelora.conventional.base import Recommender
from lifelora.conventional.caser import Caser
from lifelora.conventional.dcnv2 import DCNv2
from lifelora.conventional.deepfm import DeepFM
from lifelora.conventional.din import DIN
from lifelora.conventional.gru4rec import GRU4Rec
from lifelora.conventional.popularity import Popularity
from lifelora.conventional.sasrec import SASRec
from lifelora.data.dataset import Dataset, Rules, Samples, Schema, prepare
from lifelora.data.sources.movielens import Movielens
from lifelora.evaluation.metrics import accuracy, auc, log_loss
from lifelora.seeds import derive
from lifelora.training import Evaluation, TrainingConfig, fit
from lifelora.types import Part

MODELS = {config.kind: config for config in (
    Popularity.Config(), DeepFM.Config(), AutoInt.Config(), DCNv2.Config(), GRU4Rec.Config(), Caser.Config(), SASRec.Config(),
    DIN.Config(),
)}
TRAINING = TrainingConfig(batch_size=1024, epochs=2, learning_rate=1e-3, schedule="linear", evaluations_per_epoch=2)
SCORING_BATCH = 4096


def random_batch(schema: Schema, rows: int, length: int, generator: torch.Generator) -> Samples:
    """The shape of MovieLens-1M, full histories."""

    def draw(below: int, *shape: int) -> torch.Tensor:
        return torch.randint(below, shape, generator=generator)

    return Samples(draw(schema.n_users, rows), draw(schema.n_items, rows), draw(2, rows).float(),
                   draw(schema.n_items, rows, length), draw(schema.n_ratings, rows, length),
                   torch.ones(rows, length, dtype=torch.bool))


def throughput(names: list[str], rows: int = 1024, steps: int = 15) -> dict[str, float]:
    """Rows per second of forward, backward and a fused AdamW step, of each model that is trained: the median of ``steps``,
    in one thread.
    """
    torch.set_num_threads(1)
    generator, sizes = torch.Generator().manual_seed(0), (3, 8, 22, 3440)
    fields = torch.stack([torch.randint(size, (6040,), generator=generator) for size in sizes], dim=1)
    schema = Schema(6040, 3706, 5, fields, sizes, torch.randint(19, (3706, 1), generator=generator), (19,))
    speeds = {}
    for name in names:
        model = build(MODELS[name], schema)
        if isinstance(model, Popularity):
            continue  # it is counted
        optimizer = torch.optim.AdamW(model.parameters(), fused=True)
        seconds = []
        for _ in range(steps):
            batch = random_batch(schema, rows, model.history_length, generator)
            start = time.process_time()  # of this process: other work on the machine does not count
            optimizer.zero_grad()
            model.loss(batch).backward()
            optimizer.step()
            seconds.append(time.process_time() - start)
        speeds[name] = rows / statistics.median(seconds)
        print(f"{name}: {speeds[name]:,.0f} rows/s, so 102,400 rows in {102_400 / speeds[name]:.1f} s")
    return speeds


@torch.no_grad()
def figures(model: Recommender, dataset: Dataset, part: Part) -> dict[str, float]:
    """AUC, log loss, accuracy and n on all rows of a part."""
    rows_N = np.asarray(dataset.samples[part])
    blocks = np.array_split(rows_N, -(-len(rows_N) // SCORING_BATCH))
    score_N = torch.cat([model.score(dataset.gather(dataset.targets(block), model.history_length)) for block in blocks])
    pair = np.asarray(dataset.label_N[rows_N]), score_N.double().numpy()
    return {"auc": auc(*pair), "log_loss": log_loss(*pair), "accuracy": accuracy(*pair), "n": len(rows_N)}


def train(
    model: Recommender, dataset: Dataset, training: TrainingConfig, folder: Path, seed: int, name: str
) -> list[Evaluation]:
    """Select on validation; every evaluation is shown as it comes."""

    def validate() -> dict[str, float]:
        found = figures(model, dataset, "valid")
        print(f"{name}: valid AUC {found['auc']:.5f}, log loss {found['log_loss']:.5f}", flush=True)
        return found

    def gather(rows_B: np.ndarray) -> Samples:
        return dataset.gather(dataset.targets(rows_B), model.history_length)

    rows_N = np.asarray(dataset.samples["train"])
    history = fit(model, rows_N, gather, validate, training, folder, seed, name=name, device="cpu", progress=False)
    return history.evaluations


def evaluate(
    source: Path, out: Path, names: list[str], seed: int, training: TrainingConfig, overrides: dict[str, object]
) -> None:
    """Train each model, then look at test, once."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        dataset = prepare(Movielens(path=str(source)).read(False), Rules(), Path(folder) / "data", source.name)
        print({part: f"{len(rows):,}" for part, rows in dataset.samples.items()}, flush=True)
        for name in names:
            config = type(MODELS[name]).model_validate(MODELS[name].model_dump() | overrides)
            torch.manual_seed(derive(seed, "start", name))
            model, start = build(config, dataset.schema()), time.monotonic()
            evaluations: list[Evaluation] = []
            if isinstance(model, Popularity):
                model.fit(dataset)
            else:
                evaluations = train(model, dataset, training, Path(folder) / name, seed, name)
            model.eval()
            result = {
                "data": dataset.name, "model": config.model_dump(),
                "training": training.model_dump() if evaluations else None, "seed": seed,
                "seconds": round(time.monotonic() - start, 1), "threads": 1, "torch": torch.__version__,
                "evaluations": [evaluation.model_dump() for evaluation in evaluations],
                "valid": figures(model, dataset, "valid"), "test": figures(model, dataset, "test"),
            }
            results = json.loads(out.read_text()) if out.exists() else []
            out.parent.mkdir(parents=True, exist_ok=True)
            out.write_text(json.dumps([*results, result], indent=1) + "\n")
            print(name, result["test"], flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["throughput", "accuracy"])
    parser.add_argument("--data", type=Path, help="folder of a MovieLens set")
    parser.add_argument("--out", type=Path, default=Path("results.json"))
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", type=json.loads, default={}, help="changed settings, such as {\"embedding\": 32}")
    parser.add_argument("--training", type=json.loads, default={}, help="changed settings, such as {\"epochs\": 3}")
    arguments = parser.parse_args()
    if arguments.what == "throughput":
        throughput(arguments.models)
    else:
        training = TrainingConfig.model_validate(TRAINING.model_dump() | arguments.training)
        evaluate(arguments.data, arguments.out, arguments.models, arguments.seed, training, arguments.model)


if __name__ == "__main__":
    main()
