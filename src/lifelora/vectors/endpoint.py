"""Vectors from an embedding model behind an OpenAI-compatible endpoint, each asked for once. Knows no item."""

import base64
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from lifelora.endpoint.caller import Caller, Endpoint, EndpointError, together
from lifelora.errors import ArtefactError
from lifelora.finished import Keep, Store, finished
from lifelora.vectors.base import TextVectors, Tools

FILE = "embedded.jsonl"


class EndpointVectors(Endpoint, TextVectors):
    """An embedding model behind an endpoint makes vectors."""

    kind: Literal["endpoint"] = "endpoint"
    batch_size: int = Field(default=64, ge=1)
    "Texts in one request."

    def in_words(self) -> str:
        return "an endpoint"

    def read(self, texts: Sequence[str], tools: Tools) -> Float[Tensor, "N D"]:
        """The endpoint's vector of every text; finished ones are read from ``tools.folder``."""
        store, caller = Store(tools.kept(FILE), {"url": self.url, "model": self.model}), Caller(self)

        def ask(batch: list[str], keep: Keep) -> None:
            answer = caller.post("/embeddings", {"model": self.model, "input": batch})
            vectors_ND = caller.understood(answer, lambda body: _vectors(body, len(batch)), "/embeddings")
            keep(batch, [base64.b64encode(row.astype("<f4").tobytes()).decode() for row in vectors_ND])

        def make(some: list[str], keep: Keep) -> None:
            batches = [some[at : at + self.batch_size] for at in range(0, len(some), self.batch_size)]
            together(lambda batch: ask(batch, keep), batches, self.together)

        written = finished(texts, store, make, "embed", tools.progress)
        try:
            rows = [np.frombuffer(base64.b64decode(row, validate=True), "<f4") for row in written]
        except ValueError as error:
            raise ArtefactError(
                f"{store.path} holds something that is not a vector ({error}); delete it: all are asked for again."
            ) from error
        widths = {len(row) for row in rows}
        if len(widths) != 1:
            raise EndpointError(
                f"{self.url}/embeddings gave vectors of different lengths ({sorted(widths)}); delete "
                f"{store.path} and ask one model for all."
            )
        vectors_ND = np.stack(rows).astype(np.float32)
        if not np.isfinite(vectors_ND).all():
            raise ArtefactError(f"{store.path} holds a vector with NaN or infinity; delete it. All are then asked for again.")
        return torch.from_numpy(vectors_ND)


def _vectors(answer: Any, count: int) -> Float[np.ndarray, "N D"]:
    by_place = {row["index"]: row["embedding"] for row in answer["data"]}
    vectors_ND = np.array([by_place[place] for place in range(count)], np.float32)
    if vectors_ND.ndim != 2 or not vectors_ND.size or not np.isfinite(vectors_ND).all():
        raise ValueError
    return vectors_ND
