"""Recommenders without a language model, behind one contract. Knows no training."""

from typing import Annotated

from lifelora.conventional.base import Recommender
from lifelora.kinds import MODELS

AnyRecommender = Annotated[Recommender.Config, MODELS]
