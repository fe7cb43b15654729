"""The versions of bmz and of the libraries that it uses, as they were installed."""

from __future__ import annotations

from functools import cache

NOT_INSTALLED = "0+source"
"""Of a folder of sources that was never installed, and so has no version."""


NOTED_LIBRARIES = (
    "bioimageio.spec",
    "numpy",
    "scipy",
    "scikit-image",
    "tifffile",
    "onnxruntime",
    "onnxruntime-gpu",
    "torch",
)
"""The libraries that shape a result."""


@cache
def version() -> str:
    """Give the version that the installed package states; it comes from the tag of the release."""
    from importlib.metadata import PackageNotFoundError, version  # here: it takes long to import

    try:
        return version("bmz")
    except PackageNotFoundError:
        return NOT_INSTALLED


def versions() -> dict[str, str]:
    """Give the versions of bmz, Python and the libraries that shape a result."""
    import importlib.metadata  # here: it takes long to import
    import platform

    entries = {"bmz": version(), "python": platform.python_version()}
    for name in NOTED_LIBRARIES:
        try:
            entries[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return entries
