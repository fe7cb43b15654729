"""Ctrl-C where a network does not return: Python cannot answer, so a thread ends the program."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

GRACE_S = 10.0
"""How long the program may take to end by itself after the first Ctrl-C."""

INTERRUPTED = 130


@contextmanager
def interruptible() -> Iterator[None]:
    """End the program at a second Ctrl-C, or when the first one has no effect for `GRACE_S`.

    Python raises ``KeyboardInterrupt`` when the main thread is back in Python. While that runs a
    network, or another long call into a library, the signal is only noted; its number is also
    written into a socket, which a thread reads. What is finished is whole, since outputs appear
    under their names when they are; ``bmz run --resume`` removes what is not. To be called in the
    main thread.
    """
    told, tell = socket.socketpair()
    tell.setblocking(False)  # noqa: FBT003  (it has no name)
    before = signal.set_wakeup_fd(tell.fileno(), warn_on_full_buffer=False)
    watch = threading.Thread(target=_watch, args=(told,), daemon=True)
    watch.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        tell.close()
        watch.join()


def _watch(told: socket.socket) -> None:
    interrupts = 0
    with told:
        while True:
            try:
                numbers = told.recv(64)
            except TimeoutError:
                _end("the program did not answer to Ctrl-C")
            if not numbers:  # the other end is closed: the program ends by itself
                return
            interrupts += numbers.count(signal.SIGINT)
            if interrupts > 1:
                _end("interrupted twice")
            elif interrupts == 1:
                told.settimeout(GRACE_S)


def _end(why: str) -> None:
    text = f"\n{why}: ended at once; what is finished is kept (bmz run --resume goes on)\n"
    os.write(2, text.encode())
    os._exit(INTERRUPTED)
