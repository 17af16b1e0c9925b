"""Recommenders without a language model, behind one contract: the closed list of them. Knows no training."""

from typing import Annotated, assert_never

from pydantic import Field

from lifelora.conventional.autoint import AutoInt
from lifelora.conventional.base import Recommender
from lifelora.conventional.caser import Caser
from lifelora.conventional.dcnv2 import DCNv2
from lifelora.conventional.deepfm import DeepFM
from lifelora.conventional.din import DIN
from lifelora.conventional.gru4rec import GRU4Rec
from lifelora.conventional.popularity import Popularity
from lifelora.conventional.sasrec import SASRec
from lifelora.data.dataset import Schema

AnyRecommender = Annotated[
    Popularity.Config | DeepFM.Config | AutoInt.Config | DCNv2.Config
    | GRU4Rec.Config | Caser.Config | SASRec.Config | DIN.Config,
    Field(discriminator="kind"),
]


def build(config: AnyRecommender, schema: Schema) -> Recommender:
    """The model that ``config`` describes, untrained; its start is drawn from torch's global generator."""
    match config:
        case Popularity.Config():
            return Popularity(config, schema)
        case DeepFM.Config():
            return DeepFM(config, schema)
        case AutoInt.Config():
            return AutoInt(config, schema)
        case DCNv2.Config():
            return DCNv2(config, schema)
        case GRU4Rec.Config():
            return GRU4Rec(config, schema)
        case Caser.Config():
            return Caser(config, schema)
        case SASRec.Config():
            return SASRec(config, schema)
        case DIN.Config():
            return DIN(config, schema)
        case _:
            assert_never(config)
