"""Where fetched and unpacked models lie."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs


def cache_folder() -> Path:
    """Give the cache folder: ``BMZ_CACHE_DIR``, or the place the system keeps for caches."""
    named = os.environ.get("BMZ_CACHE_DIR")
    return Path(named) if named else Path(platformdirs.user_cache_dir("bmz"))
