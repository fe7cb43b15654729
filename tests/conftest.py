"""Fixtures that every room uses."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

collect_ignore = [] if find_spec("torch") else ["conformance/architecture.py"]
"""What is imported for its doctests, and imports torch."""

settings.register_profile(
    "bmz", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("bmz")


@pytest.fixture(autouse=True)
def _no_network_and_no_cache_of_the_user(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keep a forgotten address from reaching the live zoo, and tests out of the user's cache."""
    monkeypatch.setenv("BMZ_OFFLINE", "1")
    monkeypatch.setenv("BMZ_CACHE_DIR", str(tmp_path_factory.getbasetemp() / "bmz-cache"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """Give the folder of real models, images and golden masks, or skip where it is absent."""
    folder = Path(os.environ.get("BMZ_TEST_DATA", Path(__file__).parents[2] / "shared"))
    if not (folder / "models").is_dir():
        pytest.skip("the folder of real models and images is not beside this clone")
    return folder
