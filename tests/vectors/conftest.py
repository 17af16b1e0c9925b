from endpoint_world import server, waits

__all__ = ["server", "waits"]
