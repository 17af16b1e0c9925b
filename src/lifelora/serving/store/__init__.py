"""What users did, kept for good: the event store, in SQLite or PostgreSQL. Knows no model and no HTTP."""

from lifelora.serving.store.events import Accepted, Form, Kept, NewEvent
from lifelora.serving.store.forgetting import Forgotten
from lifelora.serving.store.imports import Imported
from lifelora.serving.store.store import Store

__all__ = ["Accepted", "Forgotten", "Form", "Imported", "Kept", "NewEvent", "Store"]
