"""Tables of objects as AnnData: measurements with units, places in um, neighbours, and facts."""

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
"""Of pixels in a heading that counts them."""

_SHAPES: Final = (
    "area", "volume", "perimeter", "centroid", "equivalent_diameter_area", "axis_major_length",
    "axis_minor_length", "orientation", "bbox", "circularity", "eccentricity", "solidity",
    "contact_share", "neighbours_touching", "nearest_neighbour",
)  # fmt: skip
_BRIGHTNESS: Final = re.compile(r"(intensity_(?:mean|median|max|min|sum))_?(.*)")
_WITHIN: Final = "neighbours_within"

INSTANCE_KEY: Final = "label"
"""The column of `obs` with the number of an object in the label mask."""

_CONNECTIVITIES, _DISTANCES = "spatial_connectivities", "spatial_distances"
"""What squidpy calls the matrices of neighbours."""


@dataclass(frozen=True)
class Measure:
    """What a heading of a table says.

    Parameters
    ----------
    property : its name, for most that of ``skimage.measure.regionprops_table``
    unit : of its values; empty for counts, shares and intensities
    channel : of the image that was measured; empty for a shape
    """

    property: str
    unit: str = ""
    channel: str = ""


def measure_of(heading: str) -> Measure | None:
    """Read the heading of a measurement; None for one that tells what or where an object is.

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
    # the nearest neighbour itself is a number of an object
    if not known or heading == "nearest_neighbour":
        return None
    return Measure(name, _POWERS.get(known, unit) if unit == "px" else unit)


def annotated(result: Result, rows: Mapping[str, AnyArray]) -> AnnData:
    """Return a table of objects as AnnData.

    ``X`` has a column for each measurement, ``var`` its property, unit and channel, ``obs`` all
    else that is known of an object, ``obsm["spatial"]`` the centroids along x, y (and z) in um, or
    in px where the pixel size is not known, as ``uns["spatial_unit"]`` says, and ``uns["bmz"]`` the
    model, the image and the versions. Where neighbours are asked for, ``obsp`` has their distances
    and contacts, under the names that squidpy reads.

    Parameters
    ----------
    rows : (n,) each, of ``result.rows("table")``
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
    """Write the objects of several ``.h5ad`` files into one; what a table lacks is NaN or empty.

    Names of objects get the name of their image in front where several have the same; facts in
    ``uns`` stay where they are the same for all.

    Parameters
    ----------
    path : appears only when it is whole; replaced when it is there
    tables : file -> heading and value of columns that its rows get in front
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
    """Return all rows of a table in one, fractions to the digits of the CSV."""
    tables = list(result.rows(kind))
    rows = {name: np.concatenate([np.asarray(t[name]) for t in tables]) for name in tables[0]}
    return {n: to_digits(c) if c.dtype.kind == "f" else c for n, c in rows.items()}


def _plain(column: pd.Series[Any]) -> AnyArray:
    values = np.asarray(column)
    return values if values.dtype.kind in "biuf" else np.array([_text(v) for v in values])


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _frame(columns: Mapping[str, AnyArray], names: Sequence[str]) -> pd.DataFrame:
    """Make a data frame whose words every version of anndata can write: objects, categories."""
    import pandas as pd

    # pandas 3 would make words a type that readers of .h5ad before anndata 0.11 do not know
    def column(values: AnyArray) -> AnyArray | pd.Categorical:
        if values.dtype.kind not in "UO":
            return values
        kinds = pd.Index(np.unique(values).astype(object), dtype=object)
        return pd.Categorical(values.astype(object), categories=kinds)

    index = pd.Index(np.array(names, object), dtype=object)
    return pd.DataFrame({name: column(np.asarray(v)) for name, v in columns.items()}, index=index)


def _names(rows: Mapping[str, AnyArray]) -> list[str]:
    """Give each object a name: its label, and the frame where a label comes in several."""
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
    """Return where objects lie along x, y (and z), and the unit of that."""
    axes = [axis for axis in SPACE[::-1] if f"centroid_{axis}_px" in rows]
    if not axes:
        return None, ""
    unit = "um" if all(axis in result.pixel_um for axis in axes) else "px"
    places = [np.asarray(rows[f"centroid_{axis}_{unit}"], np.float64) for axis in axes]
    plane = rows.get("z_um" if unit == "um" else "z")
    if plane is not None:  # of a stack whose planes were labelled one by one
        places.append(np.asarray(plane, np.float64))
    return np.stack(places, axis=1), unit


def _about(result: Result) -> dict[str, Any]:
    """Return the facts of the record that say where the objects come from."""
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
    """Say of neighbours what squidpy says of those that it finds itself."""
    keys = {"connectivities_key": _CONNECTIVITIES, "distances_key": _DISTANCES}
    asked = result.record["request"]["neighbours"]
    return {"spatial_neighbors": {**keys, "params": {"neighbours": asked, "unit": unit}}}


def _neighbours(result: Result, rows: Mapping[str, AnyArray]) -> dict[str, Any]:
    """Give who is beside whom and how far, as sparse matrices; none where nobody asked."""
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
    """Return the row of the table that one end of each edge has."""
    apart = [axis for axis in "tz" if axis in rows and axis in edges]

    def keys(table: Mapping[str, AnyArray], label: str) -> AnyArray:
        whole = np.asarray(table[label], np.int64)
        for axis in apart:
            whole = whole * (int(np.max(rows[axis], initial=0)) + 1) + np.asarray(table[axis])
        return whole

    own = keys(rows, INSTANCE_KEY)
    order = np.argsort(own, kind="stable")
    return order[np.searchsorted(own[order], keys(edges, name))]
