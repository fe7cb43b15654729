"""The functions of ``scipy.ndimage``, which is imported when one of them is called.

SciPy takes as long to import as all else that a small image needs, and most images do without it.
"""

from __future__ import annotations

from typing import Any


def __getattr__(name: str) -> Any:  # noqa: ANN401  (whatever the name stands for)
    if name.startswith("__"):  # whoever looks around wants no import
        raise AttributeError(name)
    from scipy import ndimage

    return getattr(ndimage, name)
