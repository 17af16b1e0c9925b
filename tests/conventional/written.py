"""What a model's formula is made of, sample by sample in numpy: its weights, its fields' vectors, its h_j."""

import numpy as np
import torch

from lifelora.conventional import AnyRecommender
from lifelora.conventional.base import ExtraFields, Recommender
from lifelora.data.dataset import Dataset, Samples

ROWS = 6


def relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def softmax(x: np.ndarray) -> np.ndarray:
    return np.exp(x) / np.exp(x).sum()


class Written:
    """A model of ``config`` with double weights drawn anew, so that nothing stays at zero, and some training samples."""

    def __init__(self, config: AnyRecommender, data: Dataset, extra: ExtraFields | None = None) -> None:
        torch.manual_seed(5)
        self.model: Recommender = config.build(data.schema(), extra).double().eval()
        for parameter in self.model.parameters():
            torch.nn.init.normal_(parameter, std=0.5)
        self.w = {name: tensor.numpy() for name, tensor in self.model.state_dict().items()}
        self.schema = data.schema()
        # The first sample has the longest past, so that some rows are padded and one is not.
        rows = np.sort(np.concatenate([data.samples["train"][: ROWS - 1], data.samples["train"][-1:]]))
        self.batch: Samples = data.gather(data.targets(rows), self.model.history_length)
        assert self.batch.mask_BH.all(dim=1).any()
        assert not self.batch.mask_BH.all()
        self.extra_BFE = None if extra is None else extra(self.batch).detach().numpy()

    def layer(self, name: str, x: np.ndarray) -> np.ndarray:
        """W x + b, without b if there is none."""
        return self.w[f"{name}.weight"] @ x + self.w.get(f"{name}.bias", 0)

    def mlp(self, name: str, x: np.ndarray) -> np.ndarray:
        """ReLU(W x + b) of all layers; every third module of the DNN is a linear one (then ReLU and dropout)."""
        for at in range(0, 99, 3):
            if f"{name}.{at}.weight" not in self.w:
                break
            x = relu(self.layer(f"{name}.{at}", x))
        return x

    def places(self, b: int) -> list[int]:
        """Where the fields of a sample stand in the table: user's id, age, target's id, genre."""
        schema, user, item = self.schema, int(self.batch.user_B[b]), int(self.batch.item_B[b])
        user_at = schema.n_items + 1 + schema.n_ratings + 1
        age_at = user_at + schema.n_users
        genre_at = age_at + schema.user_field_sizes[0]
        return [
            user_at + user,
            age_at + int(schema.user_fields_UF[user, 0]),
            item,
            genre_at + int(schema.item_fields_MF[item, 0]),
        ]

    def fields(self, b: int) -> list[np.ndarray]:
        """The vectors of these; extra ones (one of the user, one of the target) behind those of their side."""
        fields = [self.w["inputs.table.weight"][place] for place in self.places(b)]
        if self.extra_BFE is None:
            return fields
        of_user, of_target = self.extra_BFE[b]
        return [*fields[:2], of_user, *fields[2:], of_target]

    def past(self, b: int) -> list[np.ndarray]:
        """h_j = ReLU(W [item_j ; rating_j] + b) of the real behaviours, oldest first."""
        table, batch = self.w["inputs.table.weight"], self.batch
        return [
            relu(
                self.layer(
                    "inputs.join",
                    np.concatenate(
                        [table[int(batch.history_BH[b, j])], table[self.schema.n_items + 1 + int(batch.rating_BH[b, j])]]
                    ),
                )
            )
            for j in np.flatnonzero(batch.mask_BH[b].numpy())
        ]

    def fields_and_past(self, b: int) -> list[np.ndarray]:
        past = self.past(b)
        return [*self.fields(b), sum(past) / len(past)]

    def head(self, b: int, u: np.ndarray) -> float:
        """w·DNN([fields ; u ; u*t]) + b."""
        target = self.w["inputs.table.weight"][self.places(b)[2]]
        return float(self.layer("out", self.mlp("dnn", np.concatenate([*self.fields(b), u, u * target])))[0])

    @torch.no_grad()
    def check(self, b: int, u: np.ndarray, logit: float) -> None:
        np.testing.assert_allclose(self.model.represent(self.batch)[b].numpy(), u, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(self.model.logits(self.batch)[b].item(), logit, rtol=1e-9)
