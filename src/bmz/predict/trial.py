"""The time and the additional memory that one run of a network takes."""

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
    peak_bytes : peak of the additional memory; None where the system does not report it, or the
        network runs elsewhere
    """

    took_s: float
    peak_bytes: int | None


def try_run(backend: Backend, tiles: Sequence[AnyArray]) -> TrialRun:
    """Run the network once, and measure its time and memory.

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
    # the memory of a GPU or of another process is not that of this process
    here = backend.device.kind == "cpu" and not backend.name.startswith("confined")
    return TrialRun(took_s, peak.bytes_more if here else None)
