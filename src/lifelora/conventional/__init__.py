"""Recommenders without a language model, behind one contract: the closed list of them. Knows no training."""

from typing import Annotated, assert_never

from pydantic import Field

from lifelora.conventional.base import Recommender
from lifelora.conventional.din import DIN
from lifelora.conventional.popularity import Popularity
from lifelora.conventional.sasrec import SASRec
from lifelora.data.dataset import Schema

AnyRecommender = Annotated[Popularity.Config | DIN.Config | SASRec.Config, Field(discriminator="kind")]


def build(config: AnyRecommender, schema: Schema) -> Recommender:
    """The model that ``config`` describes, untrained; its start is drawn from torch's global generator."""
    match config:
        case Popularity.Config():
            return Popularity(config, schema)
        case DIN.Config():
            return DIN(config, schema)
        case SASRec.Config():
            return SASRec(config, schema)
        case _:
            assert_never(config)
