"""Tables of objects as AnnData: measurements with units, positions in um, neighbours, metadata."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from bmz.base.arrays import AnyArray
from bmz.base.axes import SPACE
from bmz.base.files import whole_file
from bmz.base.values import dataclass
from bmz.write.result import Result
from bmz.write.tables import to_digits

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

_UNITS: Final = ("px", "um", "um2", "um3", "rad")
_POWERS: Final = {"area": "px2", "volume": "px3"}
"""Unit of a measurement in pixels whose heading ends in ``px``."""

_SHAPES: Final = (
    "area", "volume", "perimeter", "centroid", "equivalent_diameter_area", "axis_major_length",
    "axis_minor_length", "orientation", "bbox", "circularity", "eccentricity", "solidity",
    "contact_share", "neighbours_touching", "nearest_neighbour",
)  # fmt: skip
_BRIGHTNESS: Final = re.compile(r"(intensity_(?:mean|median|max|min|sum))_?(.*)")
_WITHIN: Final = "neighbours_within"

INSTANCE_KEY: Final = "label"
"""The column of ``obs`` with the label of an object in the label mask."""

_CONNECTIVITIES, _DISTANCES = "spatial_connectivities", "spatial_distances"
"""Names of the neighbour matrices in squidpy."""


@dataclass(frozen=True)
class Measure:
    """A measurement, as named by the heading of a table.

    Parameters
    ----------
    property : name of the property, mostly that of ``skimage.measure.regionprops_table``
    unit : unit of the values; empty for counts, fractions and intensities
    channel : measured channel of the image; empty for a shape property
    """

    property: str
    unit: str = ""
    channel: str = ""


def measure_of(heading: str) -> Measure | None:
    """Parse the heading of a measurement; return None for a heading of anything else.

    Examples
    --------
    >>> measure_of("area_um2"), measure_of("intensity_mean_DAPI"), measure_of("image")
    (Measure(property='area', unit='um2', channel=''), \
Measure(property='intensity_mean', unit='', channel='DAPI'), None)
    """
    if found := _BRIGHTNESS.fullmatch(heading):
        return Measure(found[1], channel=found[2])
    name, _, unit = heading.rpartition("_")
    if unit not in _UNITS:
        name, unit = heading, ""
    if name.startswith(_WITHIN):
        return Measure(name)
    known = next((shape for shape in _SHAPES if name == shape or name.startswith(f"{shape}_")), "")
    # the column nearest_neighbour holds the label of an object, not a measurement
    if not known or heading == "nearest_neighbour":
        return None
    return Measure(name, _POWERS.get(known, unit) if unit == "px" else unit)


def annotated(result: Result, rows: Mapping[str, AnyArray]) -> AnnData:
    """Return a table of objects as AnnData.

    ``X`` has a column for each measurement, ``var`` its property, unit and channel, and ``obs``
    all other columns. ``obsm["spatial"]`` holds the centroids along x, y (and z) in um, or in px
    if the pixel size is not known; ``uns["spatial_unit"]`` names the unit. ``uns["bmz"]`` holds the
    model, the image and the versions. If neighbours are requested, ``obsp`` holds their distances
    and contacts, under the names that squidpy reads.

    Parameters
    ----------
    result : result of a run
    rows : heading -> (n,) column of ``result.rows("table")``
    """
    from anndata import AnnData  # here: it takes a second to import

    measures = {name: known for name in rows if (known := measure_of(name)) is not None}
    facts = {name: column for name, column in rows.items() if name not in measures}
    values = [np.asarray(rows[name], np.float64) for name in measures]
    count = len(rows[INSTANCE_KEY])
    places, unit = _places(result, rows)
    near = _neighbours(result, rows)
    return AnnData(
        np.stack(values, axis=1) if values else np.zeros((count, 0)),
        obs=_frame(facts, _names(rows)),
        var=_var(measures),
        obsm={} if places is None else {"spatial": places},
        obsp=near,
        uns={
            "bmz": _about(result),
            "pixel_um": dict(result.pixel_um),
            **({} if places is None else {"spatial_unit": unit}),
            **(_squidpy(result, unit) if near else {}),
        },
    )


def write_annotated(result: Result, path: Path) -> None:
    """Write the table of objects as ``.h5ad``; see `annotated`."""
    annotated(result, joined_rows(result, "table")).write_h5ad(path, compression="gzip")


def join_annotated(path: Path, tables: Mapping[Path, Mapping[str, str | float]]) -> None:
    """Join the objects of several ``.h5ad`` files; what a table lacks is NaN or empty.

    The name of the image is prepended to the name of each object. Entries of ``uns`` are kept if
    they are the same in all files.

    Parameters
    ----------
    path : written atomically; an existing file is replaced
    tables : file -> heading and value of the columns to prepend to its rows
    """
    import anndata

    parts = []
    for number, (table, columns) in enumerate(tables.items()):
        part = anndata.read_h5ad(table)
        same = {name: np.full(part.n_obs, value) for name, value in columns.items()}
        known = {str(name): _plain(column) for name, column in part.obs.items()}
        about = columns.get("image", part.obs["image"].iloc[0] if part.n_obs else str(number))
        series = columns.get("series", "")
        names = [f"{about}{f'[{series}]' if series else ''}:{name}" for name in part.obs_names]
        part.obs = _frame({**same, **{n: c for n, c in known.items() if n not in same}}, names)
        parts.append(part)
    whole = anndata.concat(parts, join="outer", merge="first", uns_merge="same", pairwise=True)
    whole.obs = _frame({n: _plain(c) for n, c in whole.obs.items()}, list(whole.obs_names))
    whole.var = _frame({n: _plain(c) for n, c in whole.var.items()}, list(whole.var_names))
    with whole_file(path) as temporary:
        whole.write_h5ad(temporary, compression="gzip")


def joined_rows(result: Result, kind: str) -> dict[str, AnyArray]:
    """Return all rows of a table, with fractions rounded to the digits of the CSV."""
    tables = list(result.rows(kind))
    rows = {name: np.concatenate([np.asarray(t[name]) for t in tables]) for name in tables[0]}
    return {n: to_digits(c) if c.dtype.kind == "f" else c for n, c in rows.items()}


def _plain(column: pd.Series[Any]) -> AnyArray:
    values = np.asarray(column)
    return values if values.dtype.kind in "biuf" else np.array([_text(v) for v in values])


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _frame(columns: Mapping[str, AnyArray], names: Sequence[str]) -> pd.DataFrame:
    """Return a data frame whose text columns every version of anndata can write."""
    import pandas as pd

    # pandas 3 would give text a dtype that anndata before 0.11 cannot read from .h5ad
    def column(values: AnyArray) -> AnyArray | pd.Categorical:
        if values.dtype.kind not in "UO":
            return values
        kinds = pd.Index(np.unique(values).astype(object), dtype=object)
        return pd.Categorical(values.astype(object), categories=kinds)

    index = pd.Index(np.array(names, object), dtype=object)
    return pd.DataFrame({name: column(np.asarray(v)) for name, v in columns.items()}, index=index)


def _names(rows: Mapping[str, AnyArray]) -> list[str]:
    """Return the name of each object: its label, and its frame if a label occurs in several."""
    labels = np.asarray(rows[INSTANCE_KEY])
    if len(np.unique(labels)) == len(labels) or "t" not in rows:
        return [str(label) for label in labels.tolist()]
    pairs = zip(labels.tolist(), np.asarray(rows["t"]).tolist(), strict=True)
    return [f"{label}_t{t}" for label, t in pairs]


def _var(measures: Mapping[str, Measure]) -> pd.DataFrame:
    names = ("property", "unit", "channel")
    told = {name: np.array([getattr(m, name) for m in measures.values()]) for name in names}
    return _frame(told, list(measures))


def _places(result: Result, rows: Mapping[str, AnyArray]) -> tuple[AnyArray | None, str]:
    """Return the positions of objects along x, y (and z), and their unit."""
    axes = [axis for axis in SPACE[::-1] if f"centroid_{axis}_px" in rows]
    if not axes:
        return None, ""
    unit = "um" if all(axis in result.pixel_um for axis in axes) else "px"
    places = [np.asarray(rows[f"centroid_{axis}_{unit}"], np.float64) for axis in axes]
    plane = rows.get("z_um" if unit == "um" else "z")
    if plane is not None:  # the planes of a stack were labelled one by one
        places.append(np.asarray(plane, np.float64))
    return np.stack(places, axis=1), unit


def _about(result: Result) -> dict[str, Any]:
    """Return the entries of the record that describe the origin of the objects."""
    names = (
        "model", "model_name", "model_sha256", "image", "image_sha256", "image_axes",
        "image_series_name",
    )  # fmt: skip
    record = result.record
    recipe = (record.get("recipe") or {}).get("name")
    return {
        **{name: record[name] for name in names if record.get(name) is not None},
        **({"recipe": recipe} if recipe else {}),
        "versions": {name: str(version) for name, version in record.get("versions", {}).items()},
    }


def _squidpy(result: Result, unit: str) -> dict[str, Any]:
    """Return the metadata that squidpy writes for neighbours that it computes itself."""
    keys = {"connectivities_key": _CONNECTIVITIES, "distances_key": _DISTANCES}
    asked = result.record["request"]["neighbours"]
    return {"spatial_neighbors": {**keys, "params": {"neighbours": asked, "unit": unit}}}


def _neighbours(result: Result, rows: Mapping[str, AnyArray]) -> dict[str, Any]:
    """Return neighbours, distances and contacts as sparse matrices; none if not requested."""
    if not result.record.get("request", {}).get("neighbours"):
        return {}
    from scipy import sparse

    edges = joined_rows(result, "edges")
    one, other = (_rows_of(rows, edges, name) for name in (INSTANCE_KEY, "neighbour"))
    count = len(rows[INSTANCE_KEY])
    unit = "um" if "distance_um" in edges else "px"
    both, back = np.concatenate([one, other]), np.concatenate([other, one])
    matrices = {}
    for name, values in (
        (_CONNECTIVITIES, np.ones(len(one))),
        (_DISTANCES, edges[f"distance_{unit}"]),
        ("contact", edges["contact_px"].astype(np.float64)),
    ):
        twice = np.concatenate([values, values])
        matrices[name] = sparse.csr_matrix((twice, (both, back)), (count, count))
    matrices["contact"].eliminate_zeros()
    return matrices


def _rows_of(rows: Mapping[str, AnyArray], edges: Mapping[str, AnyArray], name: str) -> AnyArray:
    """Return the row in the table of the object at one end of each edge."""
    apart = [axis for axis in "tz" if axis in rows and axis in edges]

    def keys(table: Mapping[str, AnyArray], label: str) -> AnyArray:
        whole = np.asarray(table[label], np.int64)
        for axis in apart:
            whole = whole * (int(np.max(rows[axis], initial=0)) + 1) + np.asarray(table[axis])
        return whole

    own = keys(rows, INSTANCE_KEY)
    order = np.argsort(own, kind="stable")
    return order[np.searchsorted(own[order], keys(edges, name))]
