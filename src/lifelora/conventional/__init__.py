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
from lifelora.conventional.layers import ExtraFields
from lifelora.conventional.popularity import Popularity
from lifelora.conventional.sasrec import SASRec
from lifelora.data.dataset import Schema
from lifelora.errors import ConfigError

AnyRecommender = Annotated[
    Popularity.Config | DeepFM.Config | AutoInt.Config | DCNv2.Config
    | GRU4Rec.Config | Caser.Config | SASRec.Config | DIN.Config,
    Field(discriminator="kind"),
]


def build(config: AnyRecommender, schema: Schema, extra: ExtraFields | None = None) -> Recommender:
    """The model that ``config`` describes, untrained; its start is drawn from torch's global generator.

    The fields of ``extra`` become its own: they train and are saved with it.
    """
    match config:
        case Popularity.Config():
            if extra is not None:
                raise ConfigError("popularity counts and reads no fields, so it can be given none; take another conventional "
                                  "model.")
            return Popularity(config, schema)
        case DeepFM.Config():
            return DeepFM(config, schema, extra)
        case AutoInt.Config():
            return AutoInt(config, schema, extra)
        case DCNv2.Config():
            return DCNv2(config, schema, extra)
        case GRU4Rec.Config():
            return GRU4Rec(config, schema, extra)
        case Caser.Config():
            return Caser(config, schema, extra)
        case SASRec.Config():
            return SASRec(config, schema, extra)
        case DIN.Config():
            return DIN(config, schema, extra)
        case _:
            assert_never(config)
