"""The live service over HTTP: an engine that answers, an event store that keeps, and the doors before both. Knows no model.

What was acknowledged is in the store; the engine is told of it from there, in the store's order (``serving.following``). So
nothing that an engine refuses is lost, a service that starts again knows what the last one knew, and a new run catches up before
it answers.
"""
