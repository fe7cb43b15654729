"""Keep what the C++ parts of TensorFlow print on stderr, past Python, from being seen."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet() -> Iterator[None]:
    """Send file descriptor 2 nowhere, and ask TensorFlow for errors alone ever after.

    A word of the user's in ``TF_CPP_MIN_LOG_LEVEL`` stands. Exceptions come through as always.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        kept = os.dup(2)
    except OSError:  # there is no stderr
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(nowhere)
        os.close(kept)
