"""The labels of a plate as an OME-Zarr plate."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bmz.image.plates import PlateField
from bmz.write.ome_zarr import write_group


def write_plate(folder: Path, fields: Sequence[PlateField]) -> None:
    """Write the metadata of a plate and its wells over the label images of its fields.

    Source: OME-Zarr 0.5, sections "plate" and "well".

    Parameters
    ----------
    folder : of the plate; the label images lie in it as the images do in that of the fields
    fields : those that have labels
    """
    rows, columns = (
        list(dict.fromkeys(getattr(one, name) for one in fields)) for name in ("row", "column")
    )
    wells = dict.fromkeys((one.row, one.column) for one in fields)
    images = {
        well: [one.field for one in fields if (one.row, one.column) == well] for well in wells
    }
    plate = {
        "name": fields[0].plate.name,
        "rows": [{"name": name} for name in rows],
        "columns": [{"name": name} for name in columns],
        "wells": [
            {
                "path": f"{row}/{column}",
                "rowIndex": rows.index(row),
                "columnIndex": columns.index(column),
            }
            for row, column in wells
        ],
        "field_count": max(map(len, images.values())),
    }
    write_group(folder, {"ome": {"version": "0.5", "plate": plate}})
    for row in rows:
        write_group(folder / row, {})
    for (row, column), names in images.items():
        well = {"images": [{"path": name} for name in names]}
        write_group(folder / row / column, {"ome": {"version": "0.5", "well": well}})
