"""Attempts to run the tiles of a plan: where memory runs out, with ever smaller ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from types import TracebackType
from typing import Self

from bmz.base.progress import Listener, Note
from bmz.plan.plan import Plan, with_smaller_tiles
from bmz.predict.tiles import TileTooLarge
from bmz.spec.model import ModelSpec


class Attempts:
    """Plans with ever smaller tiles, until memory holds one.

    ``for attempt in attempts: with attempt as plan: ...`` runs the block anew, with smaller tiles,
    where it raises `TileTooLarge`. The block ends with `succeed`.

    Parameters
    ----------
    plan : of the first attempt
    model : says which sizes are legal
    listener : hears of smaller tiles

    Raises
    ------
    TileTooLarge
        Memory does not hold the smallest tile that the network takes.
    """

    def __init__(self, plan: Plan, model: ModelSpec, listener: Listener) -> None:
        self.plan = plan
        """Of the attempt under way; when one has succeeded, with the tiles at once that fit."""
        self._model = model
        self._listener = listener
        self._done = False

    def succeed(self, batch: int) -> None:
        """End the attempts.

        Parameters
        ----------
        batch : tiles at once, as many as memory held
        """
        self.plan, self._done = replace(self.plan, batch=batch), True

    def __iter__(self) -> Iterator[Self]:
        while not self._done:
            yield self

    def __enter__(self) -> Plan:
        return self.plan

    def __exit__(
        self,
        kind: type[BaseException] | None,
        why: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        if not isinstance(why, TileTooLarge):
            return False
        smaller = with_smaller_tiles(self.plan, self._model)
        if smaller is None:
            return False
        large, small = (_size(plan.tiling.tile) for plan in (self.plan, smaller))
        self._listener(Note(f"a tile of {large} does not fit into memory; now {small}"))
        self.plan = smaller
        return True


def _size(tile: Mapping[str, int]) -> str:
    return f"{' x '.join(map(str, tile.values()))} px"
