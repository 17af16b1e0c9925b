"""Recommendations out of a finished run, for one user or many; and what scoring costs."""

from lifelora.run.recommend.answer import Answer, Recommended, recommend
from lifelora.run.recommend.many import many
from lifelora.run.recommend.served import served

__all__ = ["Answer", "Recommended", "many", "recommend", "served"]
