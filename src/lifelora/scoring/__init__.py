"""Scoring: the one loop in which models are asked about many rows."""

from lifelora.scoring.batches import in_batches
from lifelora.scoring.budget import token_budget

__all__ = ["in_batches", "token_budget"]
