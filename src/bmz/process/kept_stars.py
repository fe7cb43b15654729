"""The label recipe ``stardist``, applied repeatedly to one map, as when a slider moves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bmz.base.arrays import AnyArray
from bmz.process.recipe import Labelled, Place
from bmz.process.star_suppression import Crowd, non_maximum_suppression
from bmz.process.stardist import (
    STACK,
    Candidates,
    StarSettings,
    candidates_of,
    drawn_stars,
    label_stars,
)


class KeptStars:
    """Label a map as `label_stars` does, and keep the objects of planes between calls.

    An object is suppressed only by a better one. So with a higher probability threshold the
    objects are those above it; with a lower threshold they remain, and others may be added.

    Not thread-safe.
    """

    def __init__(self) -> None:
        self._output: AnyArray | None = None
        self._settings = StarSettings()
        self._grid: tuple[int, ...] = ()
        self._stars: Candidates | None = None
        self._crowd: tuple[StarSettings, Candidates, Crowd] | None = None

    def __call__(
        self,
        output: AnyArray,
        grid: tuple[int, ...],
        settings: StarSettings,
        *,
        place: Place | None = None,
    ) -> Labelled:
        """Return the labels; stacks and other special cases are left to `label_stars`."""
        # maps that are resized as they are read have no dtype; their values are float32
        kind = getattr(output, "dtype", np.dtype(np.float32))
        if output.ndim != STACK or place is not None or kind != np.float32:
            return label_stars(output, grid, settings, place=place)
        stars = self._best(output, grid, settings)
        above = stars.take(stars.scores > settings.prob_threshold)
        return drawn_stars(above, output, grid, settings)

    def _best(self, output: AnyArray, grid: tuple[int, ...], settings: StarSettings) -> Candidates:
        """Return the objects above the threshold, and possibly some below it, best first."""
        least, known = settings.prob_threshold, self._settings.prob_threshold
        if output is not self._output or grid != self._grid:
            self._stars = self._crowd = None
        alike = replace(settings, prob_threshold=known) == self._settings
        if self._stars is None or not alike:
            self._stars = self._chosen(output, grid, settings)
        elif least < known:
            self._stars = self._with_fainter(self._stars, output, grid, settings)
        else:
            return self._stars
        self._output, self._grid, self._settings = output, grid, settings
        return self._stars

    def _chosen(
        self, output: AnyArray, grid: tuple[int, ...], settings: StarSettings
    ) -> Candidates:
        """Select objects, from kept candidates if nothing but the allowed overlap has changed."""
        overlap = settings.nms_threshold
        if self._crowd is None or replace(self._crowd[0], nms_threshold=overlap) != settings:
            candidates = candidates_of(output, grid, settings, None)
            self._crowd = settings, candidates, candidates.ranked()
        _, candidates, crowd = self._crowd
        return candidates.take(crowd.chosen(overlap))

    def _with_fainter(
        self,
        stars: Candidates,
        output: AnyArray,
        grid: tuple[int, ...],
        settings: StarSettings,
    ) -> Candidates:
        candidates = candidates_of(output, grid, settings, None)
        # the same comparison as in `find_candidates`
        old = candidates.scores > self._settings.prob_threshold
        fainter = candidates.take(~old)
        both = Candidates(
            *(
                np.concatenate([one, other])
                for one, other in zip(vars(stars).values(), vars(fainter).values(), strict=True)
            )
        )
        kept = non_maximum_suppression(
            both.points, both.distances, both.scores, settings.nms_threshold, len(stars.scores)
        )
        return both.take(kept)
