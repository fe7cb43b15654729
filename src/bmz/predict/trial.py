"""What one run of a network takes: seconds, and memory beside what the program holds."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from bmz.base.arrays import AnyArray
from bmz.base.memory import peak_memory
from bmz.predict.backend import Backend


@dataclass(frozen=True)
class TrialRun:
    """One run of a network.

    Parameters
    ----------
    took_s : seconds
    peak_bytes : of memory, at the most, beside what was held before; None where the system does
        not say, or the network runs elsewhere
    """

    took_s: float
    peak_bytes: int | None


def try_run(backend: Backend, tiles: Sequence[AnyArray]) -> TrialRun:
    """Run the network once, and measure what it takes.

    Parameters
    ----------
    tiles : its inputs

    Raises
    ------
    OutOfMemory, NetworkFailed
        The network does not run on them.
    """
    with peak_memory() as peak:
        start = time.perf_counter()
        backend.run(tiles)
        took_s = time.perf_counter() - start
    # the memory of a GPU, and that of a process of its own, are not this one's
    here = backend.device.kind == "cpu" and not backend.name.startswith("confined")
    return TrialRun(took_s, peak.bytes_more if here else None)
