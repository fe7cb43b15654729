"""What a run made of one image, and the files of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xarray as xr

from bmz.base.arrays import FloatArray
from bmz.base.files import whole_files
from bmz.engine.pipeline import Stopwatch
from bmz.engine.plates import from_field
from bmz.image.plates import PlateField
from bmz.plan.plan import Plan
from bmz.process.joined import measure_tracks, with_track
from bmz.process.measure import Table, measure_objects
from bmz.results.record import with_result
from bmz.write.ome_zarr import write_zarr_labels
from bmz.write.overlay import write_overlay
from bmz.write.record import write_record
from bmz.write.table import write_objects
from bmz.write.tiff import write_labels, write_raw


@dataclass(frozen=True)
class Predicted:
    """What came out for a whole image, with named axes.

    Parameters
    ----------
    raw : dims t, c, z, y, x as there are, float32
    labels : dims t, z, y, x as there are; None without a recipe
    scores : (number of objects,), or one array for each position along the axes that are measured
        apart (see `bmz.process.measure.measure_objects`); None where there are none
    plane_scores : the same for each plane or frame by itself, where labels are joined
    plan : with the tiles and the batch that memory held
    """

    raw: xr.DataArray
    labels: xr.DataArray | None
    scores: FloatArray | Sequence[FloatArray] | None
    plan: Plan
    plane_scores: Sequence[FloatArray] | None = None

    @property
    def objects(self) -> int | None:
        """Count the objects; None without labels."""
        return None if self.labels is None else int(self.labels.values.max(initial=0))

    def measured(self, pixels: xr.DataArray) -> Table:
        """Measure every object on the image; there must be labels.

        Where the planes of a stack were labelled one by one and not joined, an object lies in one
        plane, and is measured in it; one of a time series is measured in every frame.
        """
        if self.labels is None:
            raise ValueError("without labels there are no objects to measure")
        table = measure_objects(self.labels, pixels, self.scores, apart=self._apart)
        return with_track(table) if "t" in self.plan.joined else table

    def tables(self, pixels: xr.DataArray) -> dict[str, Table]:
        """Give the tables that there are, by the kind of output: see `bmz.write.names.TABLES`."""
        objects = self.measured(pixels)
        tables = {"table": objects}
        if "z" in self.plan.joined:
            assert self.labels is not None  # noqa: S101  (measured above; this tells mypy)
            planes = measure_objects(self.labels, pixels, self.plane_scores, apart="tz")
            tables["planes"] = with_track(planes) if "t" in self.plan.joined else planes
        if "t" in self.plan.joined:
            tables["tracks"] = measure_tracks([objects])
        return tables

    @property
    def _apart(self) -> str:
        # a model of stacks has no loop over z; its time series are measured in each frame, too
        return "t" + self.plan.measured_apart


@dataclass(frozen=True)
class ImageMade:
    """What a run made of one image, in memory.

    Parameters
    ----------
    pixels : the image, dims of ``tczyx`` in that order
    predicted : what came out
    record : of the run, without its files
    took_s : stage -> seconds
    field : of a plate, if it is one
    """

    pixels: xr.DataArray
    predicted: Predicted
    record: Mapping[str, Any]
    took_s: Mapping[str, float]
    field: PlateField | None = None

    @property
    def objects(self) -> int | None:
        """Count the objects; None without labels."""
        return self.predicted.objects

    def table(self) -> Table:
        """Measure every object; there must be labels.

        Returns
        -------
        dict of (n,) arrays
            see `bmz.process.measure.measure_objects`
        """
        return self.predicted.measured(self.pixels)

    def tables(self) -> dict[str, Table]:
        """Give all tables by their kind; there must be labels."""
        return self.predicted.tables(self.pixels)

    def write(self, files: Mapping[str, Path], folder: Path) -> dict[str, Any]:
        """Write what is asked for, all of it or nothing.

        Parameters
        ----------
        files : kind -> path; the record is always among them
        folder : they are first written to

        Returns
        -------
        dict
            the record with files, objects and seconds
        """
        stopwatch = Stopwatch(dict(self.took_s))
        with whole_files(files, folder) as staged:
            with stopwatch.stage("write"):
                _write(self, staged)
            record = with_result(self.record, files, self.objects, stopwatch.took_s)
            write_record(staged["record"], record)
        return record


def provenance_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """Take from a run record what labels should say of where they come from."""
    wanted = ("model", "model_sha256", "image", "image_sha256", "recipe", "versions")
    return {key: record[key] for key in wanted}


def _write(made: ImageMade, files: Mapping[str, Path]) -> None:
    labels, record = made.predicted.labels, made.record
    if "raw" in files:
        write_raw(files["raw"], made.predicted.raw)
    if labels is None:
        return
    if "labels" in files and record["request"]["labels_format"] == "zarr":
        write_zarr_labels(files["labels"], labels, provenance_of(record))
    elif "labels" in files:
        write_labels(files["labels"], labels)
    if "overlay" in files:
        write_overlay(files["overlay"], made.pixels, labels)
    if "table" in files:
        for kind, table in made.tables().items():
            write_objects(files[kind], [from_field(table, made.field)])
