"""What a store has and a run's log does not know, put behind that log: by a service as it comes, by `recommend` once. Knows no
engine and no HTTP.
"""

from lifelora.serving.following.fitting import Why
from lifelora.serving.following.follower import Follower, Log, Position
from lifelora.serving.following.once import add_store

__all__ = ["Follower", "Log", "Position", "Why", "add_store"]
