"""The engine: a finished run's scorers, opened, and its log, which grows. Knows neither HTTP nor where events are kept.

One thread asks the models; callers of any thread get futures. What waits goes together: the worker takes the oldest request and
all others that the same system can answer with it, as many as a budget of tokens and of time bears, so that nothing waits for a
batch to fill. Events and items come in between two batches.

To change for another run without dropping a request: start a new engine on it, tell both engines of new events from then on and
the new one of those since the run's data (from wherever they are kept), let new requests go to the new one, then ``close`` the
old one, which answers all that it has. A caller who was late gets ClosedError and asks the new one.
"""

from lifelora.serving.engine.answer import Answer, Past, Placed, Weights
from lifelora.serving.engine.engine import Engine
from lifelora.serving.engine.options import EngineOptions

__all__ = ["Answer", "Engine", "EngineOptions", "Past", "Placed", "Weights"]
