"""Fixtures that every room uses."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "bmz", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("bmz")


@pytest.fixture(scope="session")
def shared() -> Path:
    """Give the folder of real models, images and golden masks, or skip where it is absent."""
    folder = Path(os.environ.get("BMZ_TEST_DATA", Path(__file__).parents[2] / "shared"))
    if not (folder / "models").is_dir():
        pytest.skip("the folder of real models and images is not beside this clone")
    return folder
