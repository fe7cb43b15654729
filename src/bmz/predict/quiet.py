"""What TensorFlow prints is not shown, what a network prints is told without control characters."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout

from bmz.base.printable import printable

MOST_CHARACTERS = 300
"""Of what a network prints in one pass; more is cut."""


class NetworkPrints(UserWarning):
    """A network prints or warns while it runs."""


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


@contextmanager
def words_of_network() -> Iterator[None]:
    """Catch what a script prints and warns of in the block, and warn of it when the block ends.

    It may hold escapes that steer a terminal, and on stdout it would spoil the answer. PyTorch
    hands both to Python: to ``sys.stdout`` and to `warnings`.

    Warns
    -----
    NetworkPrints
        Something was printed; its first characters are given, without what could steer a terminal.
    """
    with redirect_stdout(io.StringIO()) as printed, warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        yield
    words = printable(" ".join([printed.getvalue().strip(), *(str(w.message) for w in warned)]))
    if words.strip():
        cut = words if len(words) <= MOST_CHARACTERS else f"{words[:MOST_CHARACTERS]} ..."
        warnings.warn(f"the network prints: {cut.strip()}", NetworkPrints, stacklevel=2)
