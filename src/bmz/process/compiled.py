"""Compile a loop to machine code at its first call; the result is kept on disk."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar, cast

from numba import njit

from bmz.process.compile_note import NOTE

Loop = TypeVar("Loop", bound=Callable[..., object])


def compiled(loop: Loop) -> Loop:
    """Compile `loop` with Numba, keep the machine code on disk, and let other threads go on.

    Only modules of such loops import this one, and recipes import those when they run: importing
    Numba takes half a second.
    """
    dispatcher: Any = njit(cache=True, nogil=True)(loop)
    _tell_of_compiling(dispatcher._cache)  # noqa: SLF001  (there is no public way)
    return cast("Loop", dispatcher)


class _Cache(Protocol):
    """The machine code of a loop on the disk, as Numba keeps it."""

    load_overload: Callable[..., object]
    save_overload: Callable[..., None]


def _tell_of_compiling(cache: _Cache) -> None:
    """Let what is not on the disk, and what is put there once it is compiled, be known."""
    load, save = cache.load_overload, cache.save_overload

    def loading(*words: object) -> object:
        overload = load(*words)
        if overload is None:
            NOTE.begin()
        return overload

    def saving(*words: object) -> None:
        save(*words)
        NOTE.end()

    cache.load_overload, cache.save_overload = loading, saving
