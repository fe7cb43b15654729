"""Signals that end the program: it ends in order, and at once where a network does not return."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

GRACE_S = 10.0
"""How long the program may take to end by itself after the first signal."""

INTERRUPTED = 130
ENDING = (signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else []))


class Terminated(BaseException):
    """The program was asked to end; what it started and holds in between is cleared on the way.

    Parameters
    ----------
    number : of the signal
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.exit_status = 128 + number  # as shells tell of it


@contextmanager
def interruptible() -> Iterator[None]:
    """End the program in order when it is asked to, and at once where that has no effect.

    Python answers to a signal when the main thread is back in Python: to Ctrl-C by
    ``KeyboardInterrupt``, to SIGTERM and SIGHUP by `Terminated`. While that thread runs a network,
    or another long call into a library, the signal is only noted; its number is also written
    into a socket, which a thread reads. A second one, or `GRACE_S` without an end, ends the
    program there and then. What is finished is whole, since outputs appear under their names when
    they are; ``bmz run --resume`` removes what is not. To be called in the main thread.
    """
    receiver, sender = socket.socketpair()
    sender.settimeout(0)
    earlier = signal.set_wakeup_fd(sender.fileno(), warn_on_full_buffer=False)
    # nohup has SIGHUP ignored, and that stands
    numbers = [n for n in ENDING[1:] if signal.getsignal(n) is not signal.SIG_IGN]
    handlers = {number: signal.signal(number, _raise_terminated) for number in numbers}
    watch = threading.Thread(target=_watch, args=(receiver,), daemon=True)
    watch.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(earlier)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        sender.close()
        watch.join()


def _raise_terminated(number: int, _frame: object) -> None:
    raise Terminated(number)


def _watch(receiver: socket.socket) -> None:
    signals: list[int] = []
    with receiver:
        while True:
            try:
                numbers = receiver.recv(64)
            except TimeoutError:
                _end(signals[0], "the program did not answer to the signal to end")
            if not numbers:  # the other end is closed: the program ends by itself
                return
            signals += [number for number in numbers if number in ENDING]
            if len(signals) > 1:
                _end(signals[0], "interrupted twice")
            elif signals:
                receiver.settimeout(GRACE_S)


def _end(number: int, why: str) -> None:
    text = f"\n{why}: ended at once; what is finished is kept (bmz run --resume goes on)\n"
    os.write(2, text.encode())
    os._exit(128 + number)
