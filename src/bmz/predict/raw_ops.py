"""Operations of TensorFlow that Keras 2 kept as layers: which are plain, and how each is called."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import reduce
from typing import Any

RAW_LAYERS = frozenset({"TFOpLambda", "SlicingOpLambda"})

_TOP_LEVEL = frozenset(
    """abs acos add add_n argmax argmin asin atan boolean_mask broadcast_to cast ceil
    clip_by_norm clip_by_value complex concat constant convert_to_tensor cos cosh cumsum divide
    einsum equal exp expand_dims eye fill floor gather gather_nd greater greater_equal identity
    less less_equal linspace logical_and logical_not logical_or matmul maximum meshgrid minimum
    multiply negative norm not_equal one_hot ones ones_like pad pow range rank realdiv reduce_all
    reduce_any reduce_logsumexp reduce_max reduce_mean reduce_min reduce_prod reduce_sum repeat
    reshape reverse roll round rsqrt scatter_nd shape sigmoid sign sin sinh size slice sort split
    sqrt square squeeze stack stop_gradient strided_slice subtract tan tanh tensordot tile
    transpose truediv unstack where zeros zeros_like""".split()  # noqa: SIM905  (shorter)
)
_OPERATORS = {
    "add": "math.add", "eq": "math.equal", "ne": "math.not_equal", "getitem": "",
}  # fmt: skip
_GROUPED = re.compile(r"(math|nn|linalg|signal|image)\.(?!decode|\w*sampler|encode)[a-z]\w*")


def is_plain_op(function: object) -> bool:
    """Say whether a function of TensorFlow does nothing but compute.

    Examples
    --------
    >>> [is_plain_op(name) for name in ("math.add", "concat", "io.write_file", "py_function")]
    [True, True, False, False]
    """
    if not isinstance(function, str):
        return False
    name = function.removeprefix("compat.v1.")
    owner, _, operator = name.partition(".")
    if owner == "__operators__":
        return operator in _OPERATORS
    return name in _TOP_LEVEL or _GROUPED.fullmatch(name) is not None


def raw_op_layer(keras: Any, tensorflow: Any) -> type:  # noqa: ANN401  (modules)
    """Make the layer that calls a function of TensorFlow, as ``bmz.predict.keras2`` words it.

    Parameters
    ----------
    keras, tensorflow : the modules; Keras on its TensorFlow backend
    """

    def init(self: Any, call: Mapping[str, Any], **kwargs: Any) -> None:  # noqa: ANN401
        keras.layers.Layer.__init__(self, **kwargs)
        self.how = dict(call)

    def call(self: Any, inputs: Any) -> Any:  # noqa: ANN401
        return call_op(tensorflow, self.how, inputs)

    return type("RawOp", (keras.layers.Layer,), {"__init__": init, "call": call})


def call_op(tensorflow: Any, how: Mapping[str, Any], inputs: Any) -> Any:  # noqa: ANN401
    """Call a function of TensorFlow.

    Parameters
    ----------
    how : ``function``; ``first``, how many of the inputs are its first argument (as a list when
        `listed`), 0 when that is `constant`; ``named``, the names of the arguments that the other
        inputs are; ``kwargs``, the other arguments
    inputs : a tensor, or a list of them
    """
    tensors = list(inputs) if isinstance(inputs, list | tuple) else [inputs]
    count = how["first"]
    first = tensors[:count] if how["listed"] else tensors[0] if count else how["constant"]
    kwargs = dict(how["kwargs"]) | dict(zip(how["named"], tensors[count:], strict=True))
    if how["function"] == "__operators__.getitem":
        return first[_slices(kwargs["slice_spec"])]
    name = how["function"]
    if name.startswith("__operators__."):
        name = _OPERATORS[name.removeprefix("__operators__.")]
    function = reduce(getattr, name.split("."), tensorflow)
    return function(first, **kwargs)


def _slices(words: Any) -> Any:  # noqa: ANN401  (as Python takes them)
    if isinstance(words, list):
        return tuple(_slices(word) for word in words)
    if isinstance(words, dict) and words.get("class_name") == "__ellipsis__":
        return ...
    if isinstance(words, dict):
        return slice(words.get("start"), words.get("stop"), words.get("step"))
    return words
