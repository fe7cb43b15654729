"""What the Python API returns: the report of a check, and the result of a run."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from bmz.base.values import dataclass
from bmz.check.finding import CheckReport
from bmz.engine.image_result import ImageResult, NothingJoined
from bmz.engine.run_images import save_result
from bmz.image.pixels import to_xarray
from bmz.report.html import findings_html, result_html
from bmz.report.run_text import quality_sentences
from bmz.report.text import counted, verdict_words

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr


class Report(CheckReport):
    """All findings for one image and one model, the verdict, and whether the image fits."""

    @property
    def fits(self) -> bool:
        """Return whether nothing makes the result wrong or impossible; there may be `warnings`."""
        return not self.errors

    @property
    def words(self) -> str:
        """The verdict in words: fits, fits with warnings, or does not fit."""
        return verdict_words(self.verdict, len(self.warnings))

    def _repr_html_(self) -> str:
        return findings_html(self.words, self.findings)


def label_attributes(record: Mapping[str, Any], objects: int) -> dict[str, str | int]:
    """Return the attributes of a label mask: what made it, and what its numbers mean.

    Parameters
    ----------
    record : of the run
    objects : number of objects
    """
    about: dict[str, str | int] = {"units": "label number", "objects": objects}
    return {**about, "recipe": record["recipe"]["name"], **_model_attributes(record)}


def _model_attributes(record: Mapping[str, Any]) -> dict[str, str]:
    versions = record["versions"]
    return {
        "model": record["model"],
        "model_sha256": record["model_sha256"],
        "bmz": versions["bmz"],
    }


@dataclass(frozen=True, repr=False)
class Result:
    """The result of running a model on an image.

    Parameters
    ----------
    report
        The report of the check
    """

    report: Report
    _result: ImageResult
    _kinds: tuple[str, ...]

    @property
    def name(self) -> str:
        """The name of the image: its path or address, and its number in the file."""
        return self._result.image.info.given_name

    @property
    def series(self) -> str:
        """The name of the image in its file, or its number; empty if the file has one image."""
        info = self._result.image.info
        return (info.series_name or info.series_key) if info.series_count > 1 else ""

    @cached_property
    def labels(self) -> xr.DataArray | None:
        """The label mask, dims from ``tzyx``: 0 background, 1 to n objects, on the image's grid.

        The coordinates of z, y and x are in um if the pixel size is known. ``attrs`` name the
        model, the recipe and the number of objects. None without a label recipe.
        """
        if self._result.labels is None:
            return None
        labels = to_xarray(self._result.whole_labels()).rename("labels")
        return labels.assign_attrs(label_attributes(self.record, self.objects))

    @cached_property
    def raw(self) -> xr.DataArray:
        """The output of the network after the declared steps, dims from ``tczyx``, float32.

        ``attrs`` name the model.
        """
        raw = to_xarray(self._result.whole_raw()).rename("raw")
        return raw.assign_attrs(_model_attributes(self.record))

    @property
    def image(self) -> xr.DataArray:
        """The image as read, dims from ``tczyx``."""
        return to_xarray(self._result.image.region({}))

    @property
    def objects(self) -> int:
        """Number of objects; 0 without labels."""
        return self._result.objects or 0

    @property
    def counted(self) -> str:
        """Number of objects in words: ``344 objects in 31 planes``."""
        return counted(self.objects, self.record["objects_in"], self.record["joined_over"])

    @property
    def record(self) -> Mapping[str, Any]:
        """The run record: hashes, versions, plan, recipe, parameters and findings."""
        return self._result.record

    def table(
        self, kind: Literal["objects", "edges", "planes", "tracks"] = "objects"
    ) -> pd.DataFrame:
        """Measure every object; the headings state the units (px, um, intensity).

        Parameters
        ----------
        kind
            ``"objects"``: one row per object and frame of a time series; ``"edges"``: one row per
            pair of neighbours; ``"planes"``: one row per object and plane, if planes were joined;
            ``"tracks"``: one row per track, if frames were joined

        Raises
        ------
        ValueError
            There are no labels, or nothing was joined over the axis of that table.
        """
        import pandas as pd  # here: it takes long to import

        try:
            return pd.DataFrame(self._result.table("table" if kind == "objects" else kind))
        except NothingJoined as why:
            raise ValueError(
                f"there is no table of {kind}, because nothing was joined; see link"
            ) from why

    def overlay(self, *, numbers: bool = False) -> NDArray[np.uint8]:
        """Draw the outlines of the objects on the image.

        Parameters
        ----------
        numbers
            Write the label number on each object

        Returns
        -------
        (y, x, 3) uint8
            the plane with most objects

        Raises
        ------
        ValueError
            There are no labels.
        """
        if self.labels is None:
            raise ValueError("without labels there are no outlines")
        return self._result.outlines(numbers=numbers)

    def save(self, folder: str | Path, *, overwrite: bool = False) -> dict[str, Path]:
        """Write what ``bmz run`` writes: label mask, overlay, table of objects and run record.

        Parameters
        ----------
        folder
            Created if it does not exist
        overwrite
            Whether existing files with these names may be replaced

        Returns
        -------
        dict
            kind -> path

        Raises
        ------
        OutputExists
            Files with these names already exist.
        """
        return save_result(self._result, self._kinds, Path(folder), overwrite=overwrite)

    def __repr__(self) -> str:
        objects = "no labels" if self.labels is None else self.counted
        return f"<bmz.Result of {self.record['model']}: {objects}>"

    def _repr_html_(self) -> str:
        sentences = [
            f"{self.counted} found by {self.record['model']}",
            *quality_sentences(self.record),
        ]
        return result_html(
            sentences, None if self.labels is None else self.overlay(), self.report.findings
        )
