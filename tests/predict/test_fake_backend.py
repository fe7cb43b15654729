"""The fake backend keeps the contract of every backend."""

from __future__ import annotations

import numpy as np

from bmz.base.arrays import AnyArray
from bmz.predict.backend import Backend
from bmz.testing.backend import BackendContract, FakeBackend, local_mean


class TestFakeBackend(BackendContract):
    def backend(self) -> Backend:
        return FakeBackend(local_mean(1, spatial=2))

    def inputs(self) -> list[AnyArray]:
        return [np.random.default_rng(0).random((2, 1, 9, 11), np.float32)]
