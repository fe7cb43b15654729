"""Mend descriptions of format 0.4 that the specification's own upgrade refuses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Content = dict[str, Any]
Repair = Callable[[Content], tuple[Content, tuple[str, ...]]]

_STEPS = {"inputs": "preprocessing", "outputs": "postprocessing"}


def repaired(content: Content) -> tuple[Content, tuple[str, ...]]:
    """Mend what is known to be wrong and harmless; what is whole is given back as it is.

    Parameters
    ----------
    content : a manifest as written; it is left alone

    Returns
    -------
    tuple
        the content to validate, and a remark for each change
    """
    if not str(content.get("format_version", "")).startswith("0.4"):
        return content, ()
    rules: tuple[Repair, ...] = (
        without_needless_axes,
        with_sizes_that_follow,
        without_text_dependencies,
    )
    remarks: tuple[str, ...] = ()
    for rule in rules:
        content, more = rule(content)
        remarks += more
    return content, remarks


def without_needless_axes(content: Content) -> tuple[Content, tuple[str, ...]]:
    """Drop the axes of ``scale_linear`` where one gain and one offset hold for all of them.

    Such a step does the same with and without axes. Format 0.5 forbids an axis there (``Do not
    specify an `axis` for scalar gain and offset values``), so the upgrade fails.
    """
    result, remarks = dict(content), []
    for kind, steps in _STEPS.items():
        tensors = content.get(kind)
        if not isinstance(tensors, list):
            continue
        result[kind] = [_tensor_without(tensor, steps) for tensor in tensors]
        remarks += [
            f"repaired: scale_linear of '{old.get('name')}' has one gain for all axes; "
            "its needless axes were left out"
            for old, new in zip(tensors, result[kind], strict=True)
            if old is not new
        ]
    return (result, tuple(remarks)) if remarks else (content, ())


def _tensor_without(tensor: Any, steps: str) -> Any:  # noqa: ANN401  (as written by anyone)
    if not isinstance(tensor, Mapping) or not isinstance(tensor.get(steps), list):
        return tensor
    mended = [_step_without(step) for step in tensor[steps]]
    if all(old is new for old, new in zip(tensor[steps], mended, strict=True)):
        return tensor
    return {**tensor, steps: mended}


def _step_without(step: Any) -> Any:  # noqa: ANN401  (as above)
    if not isinstance(step, Mapping) or step.get("name") != "scale_linear":
        return step
    kwargs = step.get("kwargs")
    if not isinstance(kwargs, Mapping) or "axes" not in kwargs:
        return step
    numbers = (kwargs.get("gain", 1.0), kwargs.get("offset", 0.0))
    if not all(isinstance(number, int | float) for number in numbers):
        return step
    return {**step, "kwargs": {key: value for key, value in kwargs.items() if key != "axes"}}


def with_sizes_that_follow(content: Content) -> tuple[Content, tuple[str, ...]]:
    """Let an output with a halo follow its input where it states the same, or the least, size.

    Format 0.5 wants the size of an output with a halo in terms of another axis (``output axis
    with halo and fixed size not allowed``), and the upgrade does not look for one.
    """
    inputs, outputs = content.get("inputs"), content.get("outputs")
    if not isinstance(inputs, list) or not isinstance(outputs, list) or len(inputs) != 1:
        return content, ()
    mended = [_following(output, inputs[0]) for output in outputs]
    remarks = tuple(
        f"repaired: output '{old.get('name')}' has a halo and a fixed size, that of its input; "
        "its size was taken to follow the input"
        for old, new in zip(outputs, mended, strict=True)
        if old is not new
    )
    return ({**content, "outputs": mended}, remarks) if remarks else (content, ())


def _following(output: Any, entry: Any) -> Any:  # noqa: ANN401  (as written by anyone)
    if not isinstance(output, Mapping) or not isinstance(entry, Mapping):
        return output
    axes, shape, least = str(entry.get("axes")), output.get("shape"), entry.get("shape")
    if isinstance(least, Mapping):
        least = least.get("min")
    halo = output.get("halo")
    if not isinstance(shape, list) or not isinstance(halo, list) or not any(halo):
        return output
    if shape != least or axes != output.get("axes") or len(axes) != len(shape):
        return output
    # scale 0 and half the size as offset: the way of 0.4 to say a size that follows nothing
    alone = [axis in "ci" for axis in axes]
    follows = {
        "reference_tensor": entry.get("name"),
        "scale": [0.0 if own else 1.0 for own in alone],
        "offset": [size / 2 if own else 0 for own, size in zip(alone, shape, strict=True)],
    }
    return {**output, "shape": follows}


def without_text_dependencies(content: Content) -> tuple[Content, tuple[str, ...]]:
    """Leave out the dependencies of weights that are no YAML file.

    Format 0.5 wants a conda environment (``Expected a suffix from ('.yaml', '.yml')``); a list
    for pip cannot become one. bmz installs nothing, so it only loses the name of the file.
    """
    weights = content.get("weights")
    if not isinstance(weights, Mapping):
        return content, ()
    faulty = {
        name: entry["dependencies"]
        for name, entry in weights.items()
        if isinstance(entry, Mapping) and str(entry.get("dependencies", "")).endswith(".txt")
    }
    if not faulty:
        return content, ()
    mended = {
        name: {k: v for k, v in entry.items() if k != "dependencies"} if name in faulty else entry
        for name, entry in weights.items()
    }
    remarks = tuple(
        f"repaired: dependencies of {name} are '{found}', no YAML file; they were left out"
        for name, found in faulty.items()
    )
    return {**content, "weights": mended}, remarks
