"""Read how far outputs may differ from the test tensors, from manifests of several versions."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import zip_longest
from math import inf
from typing import TYPE_CHECKING, Any, TypeGuard

from bmz.spec.model import USUAL_TOLERANCES, OutputKind, Tolerance

if TYPE_CHECKING:
    from bioimageio.spec.model import v0_5

_KEY = "reproducibility_tolerance"

_OUTPUT_KINDS: Mapping[str, OutputKind] = {
    "any_continuous_output": "continuous",
    "any_discrete_output": "discrete",
    "any_label_output": "discrete",
}
"""Values that ``output_ids`` may have instead of a list, since bioimageio.spec 0.5.13."""


def with_lists_of_outputs(content: Mapping[str, Any]) -> dict[str, Any]:
    """Replace kinds of outputs by an empty list, which version 0.5.12 requires.

    That version refuses the kinds of 0.5.13, or reads them as a sequence of letters.
    `tolerances_of` reads their meaning from the manifest.

    Parameters
    ----------
    content : content of a manifest; it is not modified
    """
    entries = _entries(content)
    if not any(_names_a_kind(entry) for entry in entries):
        return dict(content)
    plain = [{**entry, "output_ids": []} if _names_a_kind(entry) else entry for entry in entries]
    config = content["config"]
    ours = {**config["bioimageio"], _KEY: plain}
    return {**content, "config": {**config, "bioimageio": ours}}


def _entries(content: Mapping[str, Any]) -> list[Any]:
    node: Any = content
    for key in ("config", "bioimageio", _KEY):
        node = node.get(key) if isinstance(node, Mapping) else None
    return node if isinstance(node, list) else []


def _names_a_kind(entry: object) -> bool:
    word = entry.get("output_ids") if isinstance(entry, Mapping) else None
    return isinstance(word, str) and word.startswith("any_") and word.endswith("_output")


def tolerances_of(
    description: v0_5.ModelDescr, content: Mapping[str, Any]
) -> tuple[Tolerance, ...]:
    """Return the tolerances that the manifest itself states, in order of precedence.

    Newer versions of bioimageio.spec add default entries if a manifest states none, and write
    them into every manifest that they save. Since nobody chose such an entry, the ``test_kwargs``
    of older models (read by `_older_tolerance`) precede it. An entry for an unknown kind of output
    is left out.

    Parameters
    ----------
    description : validated description
    content : content of the manifest, as written
    """
    ours = description.config.bioimageio
    validated = ours.reproducibility_tolerance if _KEY in ours.model_fields_set else ()
    written = [entry["output_ids"] if _names_a_kind(entry) else None for entry in _entries(content)]
    entries = [_tolerance(entry, word) for entry, word in zip_longest(validated, written) if entry]
    declared = [entry for entry in entries if entry is not None]
    kwargs = (ours.model_extra or {}).get("test_kwargs")
    words = kwargs.items() if isinstance(kwargs, Mapping) else ()
    older = [
        _older_tolerance(str(name), kwargs) for name, kwargs in words if isinstance(kwargs, Mapping)
    ]
    usual = (number for number, entry in enumerate(declared) if entry in USUAL_TOLERANCES)
    at = next(usual, len(declared))
    return (*declared[:at], *older, *declared[at:])


def _tolerance(
    entry: v0_5.ReproducibilityTolerance, weights_format: str | None
) -> Tolerance | None:
    kind = None if weights_format is None else _OUTPUT_KINDS.get(weights_format)
    if weights_format is not None and kind is None:
        return None
    return Tolerance(
        absolute=float(entry.absolute_tolerance),
        relative=float(entry.relative_tolerance),
        mismatched_per_million=int(entry.mismatched_elements_per_million),
        output_ids=tuple(str(name) for name in entry.output_ids),
        weights_formats=tuple(str(name) for name in entry.weights_formats),
        output_kind=kind,
    )


def _older_tolerance(weights_format: str, kwargs: Mapping[str, Any]) -> Tolerance:
    """Read a tolerance as models of the zoo stated it before the specification defined one.

    ``config.bioimageio.test_kwargs`` held the arguments of bioimageio.core's ``test_model`` for a
    weights format. ``decimal`` is defined as in ``numpy.testing.assert_array_almost_equal``:
    ``abs(desired-actual) < float64(1.5 * 10**(-decimal))``, for every element.
    """
    decimal = kwargs.get("decimal")
    if _is_number(decimal) and abs(decimal) <= _MOST_DECIMALS:
        return Tolerance(1.5 * 10 ** -float(decimal), 0.0, 0, weights_formats=(weights_format,))
    usual = Tolerance()
    absolute, relative = kwargs.get("absolute_tolerance"), kwargs.get("relative_tolerance")
    return Tolerance(
        float(absolute) if _is_number(absolute) else usual.absolute,
        float(relative) if _is_number(relative) else usual.relative,
        weights_formats=(weights_format,),
    )


_MOST_DECIMALS = 300
"""More decimals than float64 has, in either direction."""


def _is_number(value: object) -> TypeGuard[int | float]:
    # the specification does not define these arguments, so they may have any value
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < inf
