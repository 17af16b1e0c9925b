"""Conventional models: training throughput on random rows, alone and beside other libraries'.

    python benchmarks/conventional.py throughput --models din sasrec
    python benchmarks/conventional.py peers --zoo FOLDER/FuxiCTR/model_zoo --out benchmarks/results/conventional-throughput.json

``peers`` needs ``pip install fuxictr recbole`` (in an environment of their own), and FuxiCTR's repository, where most of its
models are.
"""

import argparse
import importlib
import importlib.metadata
import importlib.util
import json
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lifelora.conventional import AnyRecommender
from lifelora.conventional.autoint import AutoInt
from lifelora.conventional.caser import Caser
from lifelora.conventional.dcnv2 import DCNv2
from lifelora.conventional.deepfm import DeepFM
from lifelora.conventional.din import DIN
from lifelora.conventional.gru4rec import GRU4Rec
from lifelora.conventional.popularity import Popularity
from lifelora.conventional.sasrec import SASRec
from lifelora.data.dataset import Samples, Schema

MODELS: dict[str, Any] = {
    config.kind: config
    for config in (
        Popularity.Config(),
        DeepFM.Config(),
        AutoInt.Config(),
        DCNv2.Config(),
        GRU4Rec.Config(),
        Caser.Config(),
        SASRec.Config(),
        DIN.Config(),
    )
}


def random_batch(schema: Schema, rows: int, length: int, generator: torch.Generator) -> Samples:
    """The shape of MovieLens-1M, full histories."""

    def draw(below: int, *shape: int) -> torch.Tensor:
        return torch.randint(below, shape, generator=generator)

    return Samples(
        draw(schema.n_users, rows),
        draw(schema.n_items, rows),
        draw(2, rows).float(),
        draw(schema.n_items, rows, length),
        draw(schema.n_ratings, rows, length),
        torch.ones(rows, length, dtype=torch.bool),
        torch.full((rows,), length),
    )


def random_schema(generator: torch.Generator) -> Schema:
    """The sizes of MovieLens-1M: gender, age, job and zip code of users, one genre of items."""
    sizes = (3, 8, 22, 3440)
    fields = torch.stack([torch.randint(size, (6040,), generator=generator) for size in sizes], dim=1)
    return Schema(6040, 3706, 5, fields, sizes, (1,) * len(sizes), torch.randint(19, (3706, 1), generator=generator), (19,), (1,))


def throughput(names: list[str], rows: int = 1024, steps: int = 15) -> dict[str, float]:
    """Rows per second of forward, backward and a fused AdamW step, of each model that is trained: the median of ``steps``,
    in one thread.
    """
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    schema = random_schema(generator)
    speeds = {}
    for name in names:
        model = MODELS[name].build(schema)
        if isinstance(model, Popularity):
            continue  # it is counted
        optimizer = torch.optim.AdamW(model.parameters(), fused=True)
        seconds = []
        for _ in range(steps):
            batch = random_batch(schema, rows, model.history_length, generator)
            start = time.process_time()  # of this process: other work on the machine does not count
            optimizer.zero_grad()
            torch.autograd.backward(model.loss(batch))
            optimizer.step()
            seconds.append(time.process_time() - start)
        speeds[name] = rows / statistics.median(seconds)
        print(f"{name}: {speeds[name]:,.0f} rows/s, so 102,400 rows in {102_400 / speeds[name]:.1f} s")
    return speeds


@dataclass(frozen=True)
class Contestant:
    """A model as it is trained here: its own form of a batch, and the loss of that."""

    parameters: list[nn.Parameter]
    inputs: Callable[[Samples], Any]
    loss: Callable[[Any], Tensor]


def ours(config: AnyRecommender, schema: Schema) -> Contestant:
    model = config.build(schema)
    return Contestant(list(model.parameters()), lambda batch: batch, model.loss)


def our_state(config: AnyRecommender, schema: Schema) -> Contestant:
    """logit = <u, t>, of the state alone: what RecBole's sequential models compute."""
    model = config.build(schema)

    def loss(batch: Samples) -> Tensor:
        target_BE = F.embedding(batch.item_B, model.item_embeddings())
        return F.binary_cross_entropy_with_logits((model.represent(batch) * target_BE).sum(dim=1), batch.label_B)

    return Contestant(list(model.parameters()), lambda batch: batch, loss)


def as_columns(schema: Schema) -> Callable[[Samples], dict[str, Tensor]]:
    """A batch as the peers have it, a column per field; 0 is the padding of items."""

    def columns(batch: Samples) -> dict[str, Tensor]:
        profile_BF, genre_B1 = schema.user_fields_UF[batch.user_B], schema.item_fields_MF[batch.item_B]
        return {
            "user": batch.user_B,
            **dict(zip(PROFILE, profile_BF.unbind(1), strict=True)),
            "item": batch.item_B + 1,
            "genre": genre_B1.squeeze(1),
            "past": batch.history_BH + 1,
            "length": batch.mask_BH.sum(dim=1),
            "label": batch.label_B,
        }

    return columns


PROFILE = ("gender", "age", "job", "zip")


def vocabularies(schema: Schema) -> dict[str, int]:
    return {
        "user": schema.n_users,
        **dict(zip(PROFILE, schema.user_field_sizes, strict=True)),
        "item": schema.n_items + 1,
        "genre": schema.item_field_sizes[0],
        "past": schema.n_items + 1,
    }


class Join(nn.Module):
    """h_j = ReLU(W [item_j ; rating_j] + b), as it is written down, of the ratings laid beside."""

    def __init__(self, schema: Schema, width: int) -> None:
        super().__init__()
        self.rating, self.join = nn.Embedding(schema.n_ratings + 1, width), nn.Linear(2 * width, width)
        self.rating_BH = torch.empty(0)

    def forward(self, item_BHE: Tensor) -> Tensor:
        return F.relu(self.join(torch.cat([item_BHE, self.rating(self.rating_BH)], dim=2)))


def fuxictr(zoo: Path, name: str, schema: Schema, config: Any, joined: bool, settings: dict[str, Any]) -> Contestant:
    """FuxiCTR's model, of which a behaviour is the item's vector, or, ``joined``, our h_j."""
    path = next((zoo / name).glob(f"**/src/{name}.py"))
    spec = importlib.util.spec_from_file_location(f"fuxictr_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    E = config.embedding
    features = importlib.import_module("fuxictr.features").FeatureMap("random", "")
    for field, size in vocabularies(schema).items():
        features.features[field] = {"source": "", "type": "categorical", "vocab_size": size}
    features.features["item"]["padding_idx"] = 0
    features.features["past"] |= {"type": "sequence", "share_embedding": "item", "padding_idx": 0}
    if name != "DIN":
        features.features["past"]["feature_encoder"] = "layers.MaskedAveragePooling()"
    features.labels, features.num_fields, features.default_emb_dim = ["label"], features.get_num_fields(), E
    model = getattr(module, name)(
        features,
        embedding_dim=E,
        net_dropout=config.dropout,
        optimizer="adam",
        loss="binary_crossentropy",
        metrics=[],
        model_root="",
        verbose=0,
        **settings,
    )
    join = Join(schema, E)
    if joined:
        encoders = (model.embedding_layer if name == "DIN" else model.embedding_layer.embedding_layer).feature_encoders
        encoders["past"] = join if name == "DIN" else nn.Sequential(join, encoders["past"])
    if name == "AutoInt":  # R, which it leaves out between equal widths
        for layer in model.self_attention:
            layer.W_res = nn.Linear(E, E, bias=False)

    def inputs(batch: Samples) -> dict[str, Tensor]:
        join.rating_BH = batch.rating_BH
        return {field: column for field, column in as_columns(schema)(batch).items() if field != "length"}

    return Contestant(
        list(model.parameters()), inputs, lambda columns: model.compute_loss(model(columns), model.get_labels(columns))
    )


class RecBoleData:
    """As much of RecBole's Dataset as its models ask for."""

    def __init__(self, schema: Schema) -> None:
        types = importlib.import_module("recbole.utils").FeatureType
        self.Interaction = importlib.import_module("recbole.data.interaction").Interaction
        self.sizes, self.schema = vocabularies(schema), schema
        self.field2type = {field: types.TOKEN_SEQ if field == "past" else types.TOKEN for field in self.sizes}
        self.user_num = schema.n_users
        self.config: dict[str, list[str]] = {"numerical_features": []}

    def fields(self, source: object) -> list[str]:
        return list(self.sizes)

    def num(self, field: str) -> int:
        return self.sizes[field]

    def get_user_feature(self) -> Any:
        columns = dict(zip(PROFILE, self.schema.user_fields_UF.unbind(1), strict=True))
        return self.Interaction({"user": torch.arange(self.schema.n_users), **columns})

    def get_item_feature(self) -> Any:
        return self.Interaction({"item": torch.arange(self.schema.n_items + 1)})


def recbole(name: str, schema: Schema, config: Any, joined: bool, settings: dict[str, Any]) -> Contestant:
    """RecBole's model, of which a behaviour is an item's vector (of a table of its own, where it is a field), or our h_j."""
    sequential = name in ("DIN", "GRU4Rec", "Caser", "SASRec")
    folder = "sequential_recommender" if sequential else "context_aware_recommender"
    module = importlib.import_module(f"recbole.model.{folder}.{name.lower()}")
    layers, E = importlib.import_module("recbole.model.layers"), config.embedding
    hidden = [config.hidden] * config.layers
    told = {
        "USER_ID_FIELD": "user",
        "ITEM_ID_FIELD": "item",
        "LABEL_FIELD": "label",
        "LIST_SUFFIX": "_list",
        "NEG_PREFIX": "neg_",
        "ITEM_LIST_LENGTH_FIELD": "length",
        "MAX_ITEM_LIST_LENGTH": config.history_length,
        "numerical_features": [],
        "device": torch.device("cpu"),
        "embedding_size": E,
        "hidden_size": E,
        "mlp_hidden_size": hidden,
        "dropout_prob": config.dropout,
        "loss_type": "CE",
        "pooling_mode": "mean",
        **settings,
    }
    model: Any = getattr(module, name)(defaultdict(lambda: None, told), RecBoleData(schema))
    if name == "DCNV2":  # no batch norm
        model.mlp_layers = layers.MLPLayers(model.mlp_layers.layers, config.dropout)
    if name == "DIN":  # ReLU in place of Dice and the sigmoid, no batch norm, an attention as wide as ours
        model.attention.att_mlp_layers = layers.MLPLayers([4 * E, config.attention_hidden])
        model.attention.dense = nn.Linear(config.attention_hidden, 1)
        model.dnn_mlp_layers = layers.MLPLayers(model.dnn_list, config.dropout)
    if name == "Caser":  # as many heights as ours, not all
        model.conv_h = model.conv_h[: config.heights]
        model.fc1 = nn.Linear(model.fc1_dim_v + config.heights * config.horizontal, E)

    join = Join(schema, E)
    item: Any = getattr(model, "item_embedding", None)
    if joined and sequential:
        model.item_embedding = nn.Sequential(item, join)
    elif joined:
        model.token_seq_embedding_table[0] = nn.Sequential(model.token_seq_embedding_table[0], join)

    def inputs(batch: Samples) -> dict[str, Tensor]:
        join.rating_BH = batch.rating_BH
        return as_columns(schema)(batch)

    def loss(x: dict[str, Tensor]) -> Tensor:
        if name == "DIN" or not sequential:
            logit_B = model(x["user"], x["past"], x["length"], x["item"]) if sequential else model(x)
            own: Tensor = model.loss(logit_B, x["label"])
            return own
        u_BE = model(x["user"], x["past"]) if name == "Caser" else model(x["past"], x["length"])
        return F.binary_cross_entropy_with_logits((u_BE * item(x["item"])).sum(dim=1), x["label"])

    return Contestant(list(model.parameters()), inputs, loss)


def contests(zoo: Path, schema: Schema) -> dict[str, dict[str, Callable[[], Contestant]]]:
    """Every model of ours and those of the peers that compute the same or nearly so, ours first."""
    with_id: dict[str, Any] = {"user_id": True}
    deepfm, dcnv2, din = DeepFM.Config(**with_id), DCNv2.Config(**with_id), DIN.Config(**with_id)
    autoint, plus = AutoInt.Config(**with_id), AutoInt.Config(**with_id, structure="parallel")
    gru4rec, caser, sasrec = GRU4Rec.Config(), Caser.Config(), SASRec.Config()
    hidden = [deepfm.hidden] * deepfm.layers

    def fuxi(name: str, config: Any, **settings: Any) -> dict[str, Callable[[], Contestant]]:
        return {
            label: partial(fuxictr, zoo, name, schema, config, joined, settings)
            for label, joined in (("fuxictr", True), ("fuxictr, own past", False))
        }

    def bole(name: str, config: Any, **settings: Any) -> dict[str, Callable[[], Contestant]]:
        return {
            label: partial(recbole, name, schema, config, joined, settings)
            for label, joined in (("recbole", True), ("recbole, own past", False))
            if name != "DIN" or not joined
        }

    attention = {"attention_layers": 3, "attention_dim": 64}
    return {
        "deepfm": {"ours": lambda: ours(deepfm, schema), **fuxi("DeepFM", deepfm, hidden_units=hidden), **bole("DeepFM", deepfm)},
        "autoint": {"ours": lambda: ours(autoint, schema), **fuxi("AutoInt", autoint, dnn_hidden_units=[], **attention)},
        "autoint, parallel": {
            "ours": lambda: ours(plus, schema),
            **fuxi("AutoInt", plus, dnn_hidden_units=hidden, **attention),
            **bole(
                "AutoInt",
                plus,
                attention_size=64,
                n_layers=3,
                num_heads=1,
                has_residual=True,
                dropout_probs=[plus.dropout, plus.dropout, 0.0],
            ),
        },
        "dcnv2": {
            "ours": lambda: ours(dcnv2, schema),
            **fuxi("DCNv2", dcnv2, parallel_dnn_hidden_units=hidden),
            **bole("DCNV2", dcnv2, mixed=False, structure="parallel", cross_layer_num=3),
        },
        "din": {
            "ours": lambda: ours(din, schema),
            **fuxi(
                "DIN",
                din,
                dnn_hidden_units=hidden,
                attention_hidden_units=[64],
                attention_hidden_activations="ReLU",
                din_target_field=["item"],
                din_sequence_field=["past"],
            ),
            **bole("DIN", din),
        },
        "gru4rec": {
            "ours": lambda: our_state(gru4rec, schema),
            **bole("GRU4Rec", gru4rec, num_layers=1, dropout_prob=0.0),
            "ours, with its head": lambda: ours(gru4rec, schema),
        },
        "caser": {
            "ours": lambda: our_state(caser, schema),
            **bole("Caser", caser, nh=caser.horizontal, nv=caser.vertical),
            "ours, with its head": lambda: ours(caser, schema),
        },
        "sasrec": {
            "ours": lambda: our_state(sasrec, schema),
            **bole(
                "SASRec",
                sasrec,
                n_layers=1,
                n_heads=2,
                inner_size=4 * sasrec.embedding,
                hidden_act="relu",
                hidden_dropout_prob=sasrec.dropout,
                attn_dropout_prob=0.0,
                layer_norm_eps=1e-5,
                initializer_range=0.02,
            ),
            "ours, with its head": lambda: ours(sasrec, schema),
        },
    }


DIFFERENT = {
    "deepfm": "peers: a first-order weight for every past item (in our favour); RecBole: a table of its own for them (ours)",
    "autoint": "nothing",
    "autoint, parallel": "FuxiCTR: nothing; RecBole: one more product before and in each layer of attention, but none for a "
    "shortcut within it, a dropout more and first-order weights (in our favour)",
    "dcnv2": "FuxiCTR: nothing; RecBole: a table of its own for past items (in our favour)",
    "din": "FuxiCTR: nothing; RecBole: the DNN reads [u ; t ; u*t] and no other fields (in its favour)",
    "gru4rec": "RecBole: no biases (in its favour), one product more for every state (ours)",
    "caser": "RecBole: a vector of the user's id and one more layer after the filters (in our favour)",
    "sasrec": "RecBole: the norms stand after and not before (even)",
}
"""What is not the same function where the past is (so not in the rows "own past"), and whom it helps."""


def beside_peers(names: list[str], zoo: Path, out: Path, seed: int, rounds: int, rows: int = 1024, steps: int = 2) -> None:
    """Forward, backward and a fused AdamW step of all that compute a model, in turn in one process and one thread.

    A round is ``steps`` steps of each, on the same new batch, already in the form that each reads.
    """
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    schema = random_schema(generator)
    table: dict[str, dict[str, Any]] = {}
    result = {
        "date": date.today().isoformat(),
        "machine": "two shared x86-64 cores, one thread used",
        "seed": seed,
        "command": "python benchmarks/conventional.py peers --zoo FOLDER/FuxiCTR/model_zoo --out benchmarks/results/"
        f"conventional-throughput.json --seed {seed} --rounds {rounds}",
        "rounds": rounds,
        "steps": steps,
        "rows": rows,
        "versions": {package: importlib.metadata.version(package) for package in ("torch", "fuxictr", "recbole")},
        "table": table,
    }
    for name, contest in contests(zoo, schema).items():
        if name.split(",")[0] not in names:
            continue
        length = MODELS[name.split(",")[0]].history_length
        contestants = {label: make() for label, make in contest.items()}
        optimizers = {label: torch.optim.AdamW(one.parameters, fused=True) for label, one in contestants.items()}
        taken: dict[str, list[float]] = {label: [] for label in contest}
        for number in range(rounds + 1):
            batch = random_batch(schema, rows, length, generator)
            order = list(contest) if number % 2 else list(contest)[::-1]
            for label in order:
                inputs, start = contestants[label].inputs(batch), time.process_time()
                for _ in range(steps):
                    optimizers[label].zero_grad()
                    torch.autograd.backward(contestants[label].loss(inputs))
                    optimizers[label].step()
                taken[label].append(time.process_time() - start)
        own = taken["ours"][1:]  # the first round warms up
        speeds = {label: rows * steps / statistics.median(seconds[1:]) for label, seconds in taken.items()}
        table[name] = {"different": DIFFERENT[name], **{one: {"rows_per_second": round(speeds[one])} for one in speeds}}
        for label, seconds in taken.items():
            if label != "ours":
                low, median, high = statistics.quantiles([a / b for a, b in zip(seconds[1:], own, strict=True)], n=4)
                table[name][label] |= {"times_ours": round(median, 3), "quartiles": [round(low, 3), round(high, 3)]}
            print(f"{name}: {label}: {table[name][label]}", flush=True)
        out.write_text(json.dumps(result, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["throughput", "peers"])
    parser.add_argument("--zoo", type=Path, help="model_zoo of FuxiCTR's repository")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=15, help="steps of each model, of which throughput tells the median")
    parser.add_argument("--out", type=Path, default=Path("results.json"))
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if arguments.what == "throughput":
        throughput(arguments.models, steps=arguments.steps)
    else:
        beside_peers(arguments.models, arguments.zoo, arguments.out, arguments.seed, arguments.rounds)


if __name__ == "__main__":
    main()
