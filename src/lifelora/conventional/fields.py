"""Where in one table the fields of users, or those of items, stand, and how they are read. Knows no model and no data set."""

from collections.abc import Sequence
from typing import final

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn


@final
class Fields(nn.Module):
    """The fields of N users or items and, as row N, of one that came later; an id is a field, too, and comes first.

    A field with several values is the mean of them, x_f = (1/n) Σ_v x_fv; one without any has the value "unknown".
    """

    def __init__(
        self, ids_A: Int[Tensor, "A"] | None, codes_NX: Int[Tensor, "N X"], widths: Sequence[int], starts: Sequence[int]
    ) -> None:
        """Each field's codes stand in as many columns as its width, and its rows of the table begin at its start.

        ``ids_A`` are rows of the table, of all N + 1.
        """
        super().__init__()
        codes_NX = F.pad(codes_NX, (0, 0, 0, 1))
        rows = [codes_NV + start for codes_NV, start in zip(_split(codes_NX, widths), starts, strict=True)]
        read = [_read(codes_NV) for codes_NV in _split(codes_NX, widths)]
        if ids_A is not None:
            rows, widths = [ids_A[:, None], *rows], [1, *widths]
            read = [torch.ones(len(ids_A), 1, dtype=torch.bool), *read]
        self.widths, self.n_fields = tuple(widths), len(widths)
        self.rows_NX: Tensor
        self.read_NX: Tensor
        "Columns that hold a value; the others fill up."
        # They come from the schema, so they are not among the weights.
        self.register_buffer("rows_NX", torch.cat([codes_NX[:, :0], *rows], dim=1), persistent=False)
        self.register_buffer("read_NX", torch.cat([codes_NX[:, :0].bool(), *read], dim=1), persistent=False)

    def forward(self, table_BXE: Float[Tensor, "B X E"], of_B: Int[Tensor, "B"]) -> Float[Tensor, "B F E"]:
        """Fields of what a table has for ``rows_NX[of_B]``."""
        if self.n_fields == table_BXE.shape[1]:
            return table_BXE
        read_BX1 = self.read_NX[of_B].to(table_BXE)[..., None]
        sums = zip(_split(read_BX1 * table_BXE, self.widths), _split(read_BX1, self.widths), strict=True)
        return torch.stack([of_field_BVE.sum(dim=1) / count_BV1.sum(dim=1) for of_field_BVE, count_BV1 in sums], dim=1)


def shared_by(users: int, codes_UX: Int[Tensor, "U X"], widths: Sequence[int]) -> Int[Tensor, "U X"]:
    """The codes, with 0 (unknown) for values that fewer users share."""
    counted = [
        torch.where(codes_UV.flatten().bincount()[codes_UV] >= users, codes_UV, 0) for codes_UV in _split(codes_UX, widths)
    ]
    return torch.cat([codes_UX[:, :0], *counted], dim=1)


def _split(columns: Tensor, widths: Sequence[int]) -> tuple[Tensor, ...]:
    return columns.split_with_sizes(list(widths), dim=1) if widths else ()


def _read(codes_NV: Int[Tensor, "N V"]) -> Bool[Tensor, "N V"]:
    """The columns of a field that hold a value; the first, "unknown", where none does."""
    known_NV = codes_NV > 0
    known_NV[:, 0] |= ~known_NV.any(dim=1)
    return known_NV
