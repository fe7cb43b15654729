"""Assemble the results of a run for one image, and write the joint results of plates."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import field, replace
from math import nan
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from bmz.base.arrays import AnyArray
from bmz.base.axes import CONTACT, SPACE, Neighbourhood
from bmz.base.files import whole_files
from bmz.base.values import dataclass
from bmz.check.finding import Finding
from bmz.engine.further_images import PlannedMask
from bmz.engine.label_stack import Labels, LabelStack, joined
from bmz.engine.object_regions import edges_in_blocks, measured_in_blocks, object_regions
from bmz.engine.overviews import class_numbers, overview
from bmz.engine.pipeline import PlaneResult
from bmz.engine.prepared_image import RawStack
from bmz.engine.relations import held, on_disk_in, related
from bmz.engine.stages import Stopwatch
from bmz.image.formats import split_series
from bmz.image.given_names import given_name
from bmz.image.info import ImageInfo
from bmz.image.pixels import Pixels
from bmz.image.region import ImageSource
from bmz.image.series import PlateField
from bmz.plan.plan import Plan
from bmz.process.blocks import Found
from bmz.process.linking import columns_of_tracks, measure_tracks, with_track
from bmz.process.measure import Table, stacked
from bmz.process.object_columns import OUTLINE, Columns, below, shared_by_all
from bmz.results.images import ImageRun, with_result
from bmz.write.image_labels import images_with_labels
from bmz.write.names import absolute, plate_labels
from bmz.write.outputs import OUTPUT_KINDS, TABLE_FORMATS
from bmz.write.result import IN_IMAGE, Overview, PolygonsLacking, Region, doubted_labels
from bmz.write.tables import write_record

if TYPE_CHECKING:
    from bmz.results.image_documents import RanRecord, RunRecord


def image_columns(info: ImageInfo, field: PlateField | None) -> dict[str, str]:
    """Return the table columns that identify the image and, in a plate, the well of an object.

    Parameters
    ----------
    field : the plate field of the image if it belongs to a plate in a folder

    Returns
    -------
    dict
        ``image``, the name or address of its file, or its path within its plate; ``series``, its
        name or number if its file holds several; for a plate also ``file``, ``well`` and ``field``,
        otherwise ``well`` if the file itself names one
    """
    if field is not None:
        image = f"{field.plate.name}/{field.within}"
        plate = {"file": field.plate.name, "well": field.well, "field": field.field}
        return {"image": image, "series": info.series_key, **plate}
    file, _ = split_series(info.place)
    given = given_name(file)
    well = {"well": info.well} if info.well else {}
    return {"image": file.name if given == str(file) else given, "series": info.series_key, **well}


def from_image(table: Mapping[str, AnyArray], columns: Mapping[str, str]) -> Table:
    """Prepend columns whose value is the same in all rows of a table."""
    rows = len(next(iter(table.values())))
    return {**{name: np.full(rows, value) for name, value in columns.items()}, **table}


def finish_plates(
    folders: Mapping[Path, Path],
    images: Mapping[Path, PlateField | None],
    done: Iterable[ImageRun],
    *,
    zarr: bool,
) -> None:
    """Write the results of each plate as a whole: joint tables of its objects, OME-Zarr metadata.

    Parameters
    ----------
    folders : plate -> folder of its results, as from `bmz.write.names.plate_folders`
    images : image -> its plate field, as from `bmz.image.series.with_fields`
    done : results of the images that were run successfully
    zarr : whether the labels are OME-Zarr
    """
    from bmz.write.ome_zarr import write_plate

    results = {image_done.image: image_done for image_done in done}
    for plate, place in folders.items():
        fields = {
            field: results[image]
            for image, field in images.items()
            if field is not None and field.plate == plate and image in results
        }
        for kind, table in OUTPUT_KINDS.items():
            if not table.table_format:
                continue
            tables = [
                image_done.files[kind] for image_done in fields.values() if kind in image_done.files
            ]
            if tables:
                joint = place.with_name(f"{place.name}{table.ending}")
                TABLE_FORMATS[table.table_format].join(joint, {path: {} for path in tables})
        if zarr and fields and all("labels" in image_done.files for image_done in fields.values()):
            write_plate(plate_labels(place), list(fields))


def joint_tables(folder: Path) -> dict[str, Path]:
    """Return for each kind of table the path of the joint table of all images of a call."""
    tables = {kind: known for kind, known in OUTPUT_KINDS.items() if known.table_format}
    return {kind: folder / known.ending.lstrip(".") for kind, known in tables.items()}


def write_joint_tables(folder: Path, done: Sequence[ImageRun], root: Path | None = None) -> None:
    """Join the tables of all images into one table of each kind, if there are several images.

    The first columns identify the image of a row: ``image``, its path within the common folder of
    all images, or its address, and ``series``, its name or number if its file holds several.
    They also state how good its mask is likely to be: ``mask_f1`` and ``mask_quality``, empty if
    unknown.

    Parameters
    ----------
    folder : folder of the results
    done : results of the images that were run successfully
    root : common folder of the images if more may follow; a single image is then written, too
    """
    files = {image_done.image: split_series(absolute(image_done.image)) for image_done in done}
    if len(files) <= (root is None):
        return
    names = names_within((file for file, _ in files.values()), root)
    for kind, path in joint_tables(folder).items():
        tables = {
            image_done.files[kind]: {
                "image": names[files[image_done.image][0]],
                "series": files[image_done.image][1],
                **_quality_columns(image_done),
            }
            for image_done in done
            if kind in image_done.files
        }
        if tables:
            TABLE_FORMATS[OUTPUT_KINDS[kind].table_format].join(path, tables)


def _quality_columns(done: ImageRun) -> dict[str, str | float]:
    quality = done.record.get("quality")
    f1, words = (nan, "") if quality is None else (quality["f1"], quality["word"])
    return {"mask_f1": f1, "mask_quality": words}


def names_within(files: Iterable[Path], root: Path | None) -> dict[Path, str]:
    """Return the path of each file within their common folder, or its address if it has one."""
    names = {file: given_name(file) for file in files}
    here = [file for file, name in names.items() if name == str(file)]
    if here:
        common = absolute(root) if root else Path(os.path.commonpath([f.parent for f in here]))
        names |= {file: file.relative_to(common).as_posix() for file in here}
    return names


class NothingJoined(ValueError):
    """There is no table of joined objects, because no objects are joined along that axis."""


@dataclass(frozen=True)
class PlaneOutput:
    """The results for one plane or stack.

    Parameters
    ----------
    plan : plan with the tiles and the batch that fitted in memory
    labels : None without a recipe
    raw : (c, (z,) y, x) float32, or its ``.npy`` file; None if it was not requested
    classes : whether a label is the number of a class, the same in every plane
    features : features from which `bmz.process.quality.plane_quality` predicts how good the mask
        is; None if it cannot be predicted
    """

    plan: Plan
    labels: Labels | None = None
    raw: AnyArray | Path | None = None
    classes: bool = False
    features: Mapping[str, float] | None = None

    @classmethod
    def of(cls, result: PlaneResult) -> PlaneOutput:
        """Convert the result of the pipeline for a plane or stack in memory."""
        labels = result.labels
        held = None if labels is None else Labels.held(labels, result.columns)
        return cls(result.plan, held, result.raw, result.classes)


@dataclass(frozen=True)
class ComingPlane:
    """A plane or stack that has passed the network but may not be labelled yet.

    Parameters
    ----------
    plan : plan with the tiles and the batch that fitted in memory
    output : its result, available once it is labelled
    """

    plan: Plan
    output: Future[PlaneOutput]


@dataclass(frozen=True)
class ImageResult:
    """The results of a run for one image, in memory or on disk.

    Parameters
    ----------
    image : pixels of the image
    plan : plan with the tiles and the batch that fitted in memory
    labels : None without a recipe; joined if the plan says so
    raw : maps after the declared steps; None if they were not requested
    planes : the joined labels plane by plane; None if planes were not joined
    plate_field : the plate field of the image, if it has one
    findings : findings of the check and about the output
    record : record of the run, without its files
    stopwatch : durations of the run
    columns : heading -> array with the value of each label, at its number; added to the tables
    distinct : number of objects if the label numbers have gaps; None if they have none
    """

    image: ImageSource
    plan: Plan
    labels: LabelStack | None
    raw: RawStack | None
    planes: LabelStack | None = None
    plate_field: PlateField | None = None
    findings: tuple[Finding, ...] = ()
    record: RanRecord = field(default_factory=lambda: cast("RanRecord", {}))
    stopwatch: Stopwatch = field(default_factory=Stopwatch)
    columns: Mapping[str, AnyArray] = field(default_factory=dict)
    distinct: int | None = None
    _tracks: list[Table] = field(default_factory=list)

    @classmethod
    def of(
        cls,
        outputs: Sequence[PlaneOutput],
        image: ImageSource,
        plan: Plan,
        space: str,
        numbers: Sequence[AnyArray] | None = None,
    ) -> ImageResult:
        """Combine the results of all planes or stacks.

        Labels are numbered consecutively across planes, so that no number is used for two objects,
        unless the plan says that they are joined, or a number denotes a class.

        Parameters
        ----------
        outputs : one for each position along the loop of the plan; the last axis varies fastest
        space : axes of each output, ``yx`` or ``zyx``
        numbers : as in `bmz.engine.label_stack.joined`
        """
        maps = [output.raw for output in outputs if output.raw is not None]
        raw = RawStack(maps, plan.loop, space) if maps else None
        parts = [output.labels for output in outputs if output.labels is not None]
        if not parts:
            return cls(image, plan, None, raw)
        labels = LabelStack(_with_columns_of_all(parts), plan.loop, space)
        if any(output.classes for output in outputs):
            same = [np.arange(part.count + 1) for part in labels.parts]
            return cls(image, plan, replace(labels, renumbered=same), raw)
        if not plan.joined:
            return cls(image, plan, labels, raw)
        whole = joined(labels, plan.link, plan.blocks, numbers)
        return cls(image, plan, whole.labels, raw, whole.planes)

    @property
    def objects(self) -> int | None:
        """The number of objects; None without labels."""
        if self.distinct is not None:
            return self.distinct
        return None if self.labels is None else self.labels.count

    def related(self, masks: Mapping[str, PlannedMask], scratch: Path | None) -> ImageResult:
        """Relate the labels to other masks; see `bmz.engine.relations`.

        Parameters
        ----------
        scratch : folder for the labels; None if they are held in memory
        """
        if self.labels is None or not masks:
            return self
        room = held if scratch is None else on_disk_in(scratch)
        known = related(self.labels, masks, room, self.plan.blocks)
        return replace(self, labels=known.labels, columns=known.columns, distinct=known.objects)

    @property
    def pixel_um(self) -> dict[str, float]:
        """The pixel size of the image along z, y and x, in um, for axes where it is known."""
        return {axis: um for axis, um in self.image.info.pixel_um.items() if axis in SPACE}

    @property
    def raw_um(self) -> dict[str, float]:
        """The pixel size of the maps, in um; their grid may differ from that of the image."""
        if self.raw is None:
            return {}
        sizes = dict(zip(self.raw.axes, self.raw.shape, strict=True))
        image = self.image.info.sizes
        return {a: um * image[a] / sizes[a] for a, um in self.pixel_um.items() if a in sizes}

    @property
    def provenance(self) -> dict[str, Any]:
        """The part of the record that is stored with labels to state their origin."""
        names = ("model", "model_sha256", "image", "image_sha256", "recipe", "versions")
        return {key: value for key, value in self.record.items() if key in names}

    def whole_labels(self) -> Pixels:
        """Return the whole label mask, with those of the axes t, z, y, x that it has.

        Raises
        ------
        ValueError
            There are no labels.
        """
        labels = self._must_have_labels()
        whole = labels[tuple(slice(None) for _ in labels.shape)]
        return Pixels(whole, tuple(labels.axes), self.pixel_um)

    def whole_raw(self) -> Pixels:
        """Return the whole maps, with those of the axes t, c, z, y, x that they have.

        Raises
        ------
        ValueError
            The maps were not kept.
        """
        if self.raw is None:
            raise ValueError("the maps of the network were not kept")
        whole = self.raw[tuple(slice(None) for _ in self.raw.shape)]
        return Pixels(whole, tuple(self.raw.axes), self.raw_um)

    def overview(self) -> Overview:
        """Return the plane with most objects, reduced to the size of a picture; needs labels."""
        labels = self._must_have_labels()
        return replace(overview(labels, self.image), kinds=class_numbers(labels))

    def overviews(self, longest_px: int, only: Mapping[str, int]) -> Iterator[Overview]:
        """Yield the planes at the given positions, with at most `longest_px` along a side."""
        labels = self._must_have_labels()
        kinds = class_numbers(labels)
        for at in labels.planes():
            if only.items() <= at.items():
                yield replace(overview(labels, self.image, longest_px, at), kinds=kinds)

    def outlines(self, *, numbers: bool = False) -> AnyArray:
        """Draw the outlines of the objects on the overview, (y, x, 3) uint8."""
        from bmz.write.overlay import Drawing, drawn  # imported here, as few results are drawn

        return drawn(self.overview(), Drawing(doubted_labels(self.record), numbers=numbers))

    def rows(self, kind: str) -> Iterator[Table]:
        """Measure the objects; there must be labels.

        If the planes of a stack were labelled one by one and not joined, each object is measured
        in its single plane; objects of a time series are measured in every frame.

        Parameters
        ----------
        kind : ``table`` for one row per object; ``edges`` for one per pair of neighbours; if labels
            are joined along that axis, ``planes`` for one per object and plane, or ``tracks`` for
            one per track

        Yields
        ------
        dict of (n,) arrays
            as from `bmz.process.measure.measure_objects`; all have the same columns
        """
        tables = {
            "table": self._objects, "edges": self._edges, "planes": self._of_planes,
            "tracks": self._of_tracks,
        }  # fmt: skip
        columns = image_columns(self.image.info, self.plate_field)
        return (from_image(table, columns) for table in tables[kind]())

    def polygons(self) -> Iterator[tuple[Mapping[str, int], AnyArray, AnyArray]]:
        """Yield the polygons that the recipe found, plane by plane; see `Result.polygons`."""
        labels = self.planes or self._must_have_labels()
        for number, at in enumerate(labels.positions()):
            part = labels.parts[number]
            corners = part.objects.columns_by(part.numbers, {OUTLINE}).get(OUTLINE)
            if corners is None or "z" in labels.space:
                raise PolygonsLacking
            whole = labels.in_whole(number, np.arange(1, len(corners) + 1))
            yield at, whole[whole > 0], corners[whole > 0]

    def regions(self) -> Iterator[tuple[Mapping[str, int], Iterator[Region]]]:
        """Return for each table of `rows` the regions of the label mask that hold its objects."""
        return object_regions(self._must_have_labels())

    def table(self, kind: str = "table") -> Table:
        """Return all rows of a kind as a single table."""
        return stacked(list(self.rows(kind)))

    def write(self, files: Mapping[str, Path], folder: Path) -> RunRecord:
        """Write the requested files: all of them or none.

        Parameters
        ----------
        files : kind -> path; always includes the record
        folder : folder to which they are written first

        Returns
        -------
        dict
            the record with its files, number of objects and seconds
        """
        stopwatch = Stopwatch(dict(self.stopwatch.took_s), self.stopwatch.listener)
        beside = {kind: path for kind, path in files.items() if kind != IN_IMAGE}
        with images_with_labels(files) as inside, whole_files(beside, folder) as there:
            staged = {**inside, **there}
            with stopwatch.stage("write"):
                for name, kind in OUTPUT_KINDS.items():
                    if name in staged and (self.labels is not None or not kind.needs_labels):
                        kind.write(self, staged[name])
            record = with_result(self.record, files, self.objects, stopwatch.took_s)
            write_record(staged["record"], record)
        return record

    def written(self, files: Mapping[str, Path], folder: Path) -> ImageRun:
        """Write the requested files as `write` does, and return the run of the image."""
        record = self.write(files, folder)
        return ImageRun(self.image.info.place, files, self.objects, self.findings, record)

    def _objects(self) -> Iterator[Table]:
        """Measure the objects, and keep only the columns of each frame that tracks need."""
        tracked = "t" in self.plan.joined
        of_tracks = []
        for table in measured_in_blocks(self._must_have_labels(), self.image, self.plan.near):
            rows = self._with_columns(with_track(table) if tracked else table)
            if tracked:
                of_tracks.append(columns_of_tracks(rows))
            yield rows
        self._tracks[:] = of_tracks

    def _with_columns(self, table: Table) -> Table:
        of_rows = {name: column[table["label"]] for name, column in self.columns.items()}
        return {**table, **of_rows}

    def _edges(self) -> Iterator[Table]:
        """Measure the pairs of neighbours; without a given distance, those that touch."""
        near = self.plan.near or Neighbourhood(CONTACT)
        return edges_in_blocks(self._must_have_labels(), self.image, near)

    def _of_planes(self) -> Iterator[Table]:
        if self.planes is None:
            raise NothingJoined("no planes were joined")
        tables = map(
            self._with_columns, measured_in_blocks(self.planes, self.image, self.plan.near)
        )
        return map(with_track, tables) if "t" in self.plan.joined else tables

    def _of_tracks(self) -> Iterator[Table]:
        if "t" not in self.plan.joined:
            raise NothingJoined("no frames were joined")
        if not self._tracks:
            for _ in self._objects():
                pass
        yield measure_tracks(self._tracks)

    def _must_have_labels(self) -> LabelStack:
        if self.labels is None:
            raise ValueError("without labels there are no objects to measure")
        return self.labels


def _with_columns_of_all(parts: Sequence[Labels]) -> list[Labels]:
    """Drop columns that not every plane or stack has."""
    names = shared_by_all([below(part.objects.columns) for part in parts])

    def objects(part: Labels) -> Found:
        known: list[Columns] = [
            {name: some[name] for name in names} for some in part.objects.columns
        ]
        return replace(part.objects, columns=known)

    return [replace(part, objects=objects(part)) for part in parts]
