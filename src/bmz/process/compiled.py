"""Compile a loop to machine code at its first call; the result is kept on disk."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

from numba import njit

Loop = TypeVar("Loop", bound=Callable[..., object])


def compiled(loop: Loop) -> Loop:
    """Compile `loop` with Numba, keep the machine code on disk, and let other threads go on.

    Only modules of such loops import this one, and recipes import those when they run: importing
    Numba takes half a second.
    """
    return cast("Loop", njit(cache=True, nogil=True)(loop))
