"""Tests are skipped without a library, and do not import it to find out: some take seconds."""

from __future__ import annotations

from importlib.util import find_spec

import pytest


def skip_without(*libraries: str) -> None:
    """Skip the test, or the file that is collected, where one of the libraries is not installed."""
    for name in libraries:
        if find_spec(name) is None:
            pytest.skip(f"{name} is not installed", allow_module_level=True)
