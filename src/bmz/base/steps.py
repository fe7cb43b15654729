"""A declared pre- or postprocessing step: its name in the specification and its arguments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

EMPTY: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True)
class Step:
    """One operation of a model description, in the words of format 0.5.

    Parameters
    ----------
    name : the op's ``id``, such as ``scale_range``
    kwargs : its arguments with the names of format 0.5.12; axes are letters (``("c", "y")``)
    """

    name: str
    kwargs: Mapping[str, Any] = field(default_factory=lambda: EMPTY)

    def __str__(self) -> str:
        words = ", ".join(f"{key}={value!r}" for key, value in self.kwargs.items())
        return f"{self.name}({words})"
