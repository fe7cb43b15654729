"""The version of bmz, as it was installed."""

from __future__ import annotations

from functools import cache

NOT_INSTALLED = "0+source"
"""Of a folder of sources that was never installed, and so has no version."""


@cache
def version() -> str:
    """Give the version that the installed package states; it comes from the tag of the release."""
    from importlib.metadata import PackageNotFoundError, version  # here: it takes long to import

    try:
        return version("bmz")
    except PackageNotFoundError:
        return NOT_INSTALLED
