"""The kinds of output that a run can write, with their writers, and the formats of tables."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path

from bmz.base.errors import CouldNotTell, not_none
from bmz.base.values import dataclass
from bmz.write.result import IN_IMAGE, OutputKind, PolygonsLacking, Result


@dataclass(frozen=True)
class TableFormat:
    """One format of tables.

    Parameters
    ----------
    ending : suffix of its files
    write : takes a result, the kind of its table and a path
    join : takes a path, and a mapping of tables of this format to columns to prepend to their rows
    package : package that must be installed; empty if bmz already depends on it
    kinds : kinds of tables that exist in this format; None for all
    """

    ending: str
    write: Callable[[Result, str, Path], None]
    join: Callable[[Path, Mapping[Path, Mapping[str, str | float]]], None]
    package: str = ""
    kinds: Collection[str] | None = None


class TableFormatUnusable(CouldNotTell):
    """A package that writes an output is not installed."""

    def __init__(self, option: str, name: str, package: str) -> None:
        super().__init__(
            f"{option} {name} needs the package {package}, which is not installed",
            hint=f"pip install 'bmz[{name}]', or leave out {option} {name}",
            code="table.no-package",
        )


def refuse_unusable(tables: Iterable[str], saved: Iterable[str]) -> None:
    """Raise an error if a package that a table format or kind of output needs is missing.

    Raises
    ------
    TableFormatUnusable
        A package is not installed.
    """
    packages = {("--table", name): TABLE_FORMATS[name].package for name in tables}
    kinds = (name for name in saved if name in OUTPUT_KINDS)
    packages |= {("--save", name): OUTPUT_KINDS[name].package for name in kinds}
    for (option, name), package in sorted(packages.items()):
        if package and find_spec(package) is None:
            raise TableFormatUnusable(option, name, package)


# the modules of writers are imported only when they are used, so that --help stays fast


def _write_csv(result: Result, kind: str, path: Path) -> None:
    from bmz.write.tables import write_objects

    write_objects(path, result.rows(kind))


def _join_csv(path: Path, tables: Mapping[Path, Mapping[str, str | float]]) -> None:
    from bmz.write.tables import join_objects

    join_objects(path, tables)


def _write_parquet(result: Result, kind: str, path: Path) -> None:
    from bmz.write.tables import write_parquet

    write_parquet(path, result.rows(kind))


def _join_parquet(path: Path, tables: Mapping[Path, Mapping[str, str | float]]) -> None:
    from bmz.write.tables import join_parquet

    join_parquet(path, tables)


def _write_anndata(result: Result, _kind: str, path: Path) -> None:
    from bmz.write.annotated import write_annotated

    write_annotated(result, path)


def _join_anndata(path: Path, tables: Mapping[Path, Mapping[str, str | float]]) -> None:
    from bmz.write.annotated import join_annotated

    join_annotated(path, tables)


TABLE, EDGES = "table", "edges"
"""The kind of table with which all others but `EDGES` are written, and that of neighbour pairs."""

CSV = "csv"
"""The table format that is written by default."""

TABLE_FORMATS: Mapping[str, TableFormat] = {
    CSV: TableFormat(".csv", _write_csv, _join_csv),
    "parquet": TableFormat(".parquet", _write_parquet, _join_parquet, package="pyarrow"),
    "anndata": TableFormat(
        ".h5ad", _write_anndata, _join_anndata, package="anndata", kinds=(TABLE,)
    ),
}
"""Name -> table format, for each format that ``--table`` accepts."""


RECORD = "record"
"""The kind that is always written; the engine writes it itself."""

RECORD_ENDING = ".run.json"
ZARR_LABELS = ".labels.ome.zarr"
"""Suffix of a label mask as OME-Zarr."""


def _write_labels(result: Result, path: Path) -> None:
    labels = not_none(result.labels)
    um = {axis: length for axis, length in result.pixel_um.items() if axis in labels.axes}
    if result.record["request"]["labels_format"] == "zarr":
        from bmz.write.ome_zarr import write_label_store

        write_label_store(path, labels, um, result.provenance)
    else:
        from bmz.write.tiff import write_label_planes

        write_label_planes(path, labels, labels.count, um)


def _write_into_image(result: Result, path: Path) -> None:
    from bmz.write.image_labels import write_image_labels

    write_image_labels(result, path)


def _write_raw(result: Result, path: Path) -> None:
    from bmz.write.tiff import write_raw

    write_raw(path, not_none(result.raw), result.raw_um)


def _write_overlay(result: Result, path: Path) -> None:
    from bmz.write.overlay import drawing_of, drawn
    from bmz.write.shown import write_png

    write_png(path, drawn(result.overview(), drawing_of(result.record)))


def _write_projection(result: Result, path: Path) -> None:
    from bmz.write.stack_pictures import write_projection

    write_projection(result, path)


def _write_montage(result: Result, path: Path) -> None:
    from bmz.write.stack_pictures import write_montage

    write_montage(result, path)


def _write_film(result: Result, path: Path) -> None:
    from bmz.write.stack_pictures import write_film

    write_film(result, path)


def _write_slices(result: Result, path: Path) -> None:
    from bmz.write.stack_pictures import write_slices

    write_slices(result, path)


def _write_rois(result: Result, path: Path) -> None:
    from bmz.write.rois import write_rois

    write_rois(result, path)


def _write_subpixel_rois(result: Result, path: Path) -> None:
    from bmz.write.rois import write_subpixel_rois

    write_subpixel_rois(result, path)


def _write_points(result: Result, path: Path) -> None:
    from bmz.write.points import write_points

    write_points(result, path)


def _write_geojson(result: Result, path: Path) -> None:
    from bmz.write.geojson import write_geojson

    write_geojson(result, path)


def _write_coco(result: Result, path: Path) -> None:
    from bmz.write.coco import write_coco

    write_coco(result, path)


def _write_spatialdata(result: Result, path: Path) -> None:
    from bmz.write.spatial_data import write_spatialdata

    write_spatialdata(result, path)


def _table_writer(kind: str, form: TableFormat) -> Callable[[Result, Path], None]:
    def write(result: Result, path: Path) -> None:
        form.write(result, kind, path)

    return write


def _tables(name: str) -> dict[str, OutputKind]:
    """Return the kinds of tables in a format; all but those of CSV get its name as a suffix."""
    form, suffix = TABLE_FORMATS[name], "" if name == CSV else f"_{name}"
    kinds = {
        TABLE: ("objects", "", TABLE),
        EDGES: ("edges", "", EDGES),
        "planes": ("planes", "z", TABLE),
        "tracks": ("tracks", "t", TABLE),
    }
    return {
        f"{kind}{suffix}": OutputKind(
            f".{word}{form.ending}",
            _table_writer(kind, form),
            by_default=kind != EDGES,
            with_kind="" if f"{kind}{suffix}" == asked else asked,
            joined_over=axis,
            table_format=name,
            measures=True,
        )
        for kind, (word, axis, asked) in kinds.items()
        if form.kinds is None or kind in form.kinds
    }


OUTPUT_KINDS: dict[str, OutputKind] = {
    "labels": OutputKind(".labels.tif", _write_labels, zarr_ending=ZARR_LABELS),
    "raw": OutputKind(".raw.tif", _write_raw, needs_labels=False, by_default=False, is_image=True),
    "overlay": OutputKind(".overlay.png", _write_overlay, is_image=True),
    "projection": OutputKind(".projection.png", _write_projection, by_default=False, is_image=True),
    "montage": OutputKind(".montage.png", _write_montage, by_default=False, is_image=True),
    "film": OutputKind(".film.webp", _write_film, by_default=False, is_image=True),
    "slices": OutputKind(".slices.html", _write_slices, by_default=False),
    "rois": OutputKind(".rois.zip", _write_rois, by_default=False),
    "rois:subpixel": OutputKind(
        ".rois-subpixel.zip", _write_subpixel_rois, by_default=False, needs_polygons=True
    ),
    "points": OutputKind(".points.csv", _write_points, by_default=False),
    "geojson": OutputKind(".geojson", _write_geojson, by_default=False, measures=True),
    "coco": OutputKind(".coco.json", _write_coco, by_default=False),
    "spatialdata": OutputKind(
        ".spatialdata.zarr", _write_spatialdata, by_default=False, package="anndata", measures=True
    ),
    IN_IMAGE: OutputKind("", _write_into_image, with_kind=IN_IMAGE, in_image=True),
    **{kind: table for name in TABLE_FORMATS for kind, table in _tables(name).items()},
}
"""Name -> kind of output, in the order of writing; all but the record."""


CRATE = "crate"
"""Additional value of ``--save``: a description of all runs is written to the output folder."""


def saved_kinds() -> tuple[str, ...]:
    """Return the kinds that ``--save`` accepts."""
    return (*(name for name, kind in OUTPUT_KINDS.items() if not kind.with_kind), CRATE)


def default_kinds() -> tuple[str, ...]:
    """Return the kinds that are written when ``--save`` is not given."""
    own = (name for name in saved_kinds() if name in OUTPUT_KINDS)
    return tuple(name for name in own if OUTPUT_KINDS[name].by_default)


@dataclass(frozen=True)
class Made:
    """What a recipe produces.

    Parameters
    ----------
    labels : whether there is a recipe
    polygons : whether its objects have polygons
    """

    labels: bool = True
    polygons: bool = True


def kinds_to_write(
    saved: Iterable[str], made: Made, *, joined: Iterable[str], tables: Iterable[str] = (CSV,)
) -> tuple[str, ...]:
    """Return the kinds that a call writes, with the record last.

    Parameters
    ----------
    saved : values of ``--save``
    made : what the recipe produces
    joined : axes along which labels are joined
    tables : values of ``--table``

    Raises
    ------
    PolygonsLacking
        A kind needs polygons.
    """
    asked, axes, formats = set(saved), set(joined), {"", *tables}
    if not made.polygons and any(OUTPUT_KINDS[k].needs_polygons for k in asked & {*OUTPUT_KINDS}):
        raise PolygonsLacking
    return (
        *(
            name
            for name, kind in OUTPUT_KINDS.items()
            if (kind.with_kind or name) in asked
            and (made.labels or not kind.needs_labels)
            and (not kind.joined_over or kind.joined_over in axes)
            and kind.table_format in formats
        ),
        RECORD,
    )


def ending_of(kind: str, *, zarr: bool = False) -> str:
    """Return the suffix of the file of a kind; with `zarr`, that of OME-Zarr where it has one."""
    if kind == RECORD:
        return RECORD_ENDING
    written = OUTPUT_KINDS[kind]
    return (zarr and written.zarr_ending) or written.ending


def names_of_results() -> str:
    """Return a regular expression for the names of label masks, pictures and tables of bmz."""
    kinds = OUTPUT_KINDS.values()
    endings = tuple(
        filter(None, (*(kind.ending for kind in kinds), *(kind.zarr_ending for kind in kinds)))
    )
    return f"({'|'.join(re.escape(ending) for ending in endings)})$"
