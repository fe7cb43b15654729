"""What the names of an output's channels say of its maps."""

from __future__ import annotations

import re

from bmz.spec.model import TensorSpec

FOREGROUND = {"foreground", "nucleus", "nuclei", "cell", "cells", "object", "objects", "f"}
BOUNDARY = {"boundary", "boundaries", "membrane", "contour", "contours", "border", "edge", "c"}
CONTOUR = {"contour", "contours"}
LABELS = {"label", "labels", "instances", "instance_labels"}


def channel_names(tensor: TensorSpec) -> tuple[str, ...]:
    """Give the names of the channels in small letters; none where they are not declared."""
    axis = tensor.axis("c")
    return tuple(name.strip().lower() for name in axis.names) if axis else ()


def word_in(name: str, words: set[str]) -> bool:
    """Say whether one of the words of a name, as ``cell`` of ``cell-border``, is among `words`."""
    return bool(set(re.split(r"[\s_\-]+", name)) & words)
