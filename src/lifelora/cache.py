"""The folder that runs share for what they download or make once. Knows nothing of what lies in it."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """$LIFELORA_CACHE, or lifelora's folder in the user's cache."""
    if "LIFELORA_CACHE" in os.environ:
        return Path(os.environ["LIFELORA_CACHE"])
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "lifelora"
