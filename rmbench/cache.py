"""The folder where what need not be made again is kept."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """RMBENCH_CACHE, else the platform's cache folder."""
    from platformdirs import user_cache_path

    return Path(os.environ["RMBENCH_CACHE"]) if os.environ.get("RMBENCH_CACHE") else user_cache_path("rmbench")
