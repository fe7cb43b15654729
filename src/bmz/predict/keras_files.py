"""Files of Keras, checked without Keras; the only module that imports h5py.

Both formats are a configuration in JSON and weights in HDF5: ``.keras`` is a zip with the two,
``.h5`` is an HDF5 file with the configuration as an attribute. Loading a configuration calls what
it names, and HDF5 may take its content from any other file; both are checked here first.
"""

from __future__ import annotations

import json
import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from io import BytesIO
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO

from bmz.base.errors import CouldNotTell
from bmz.predict.backend import NoBackend, WeightsUnreadable
from bmz.predict.frameworks import FRAMEWORKS
from bmz.predict.graph_ops import RAW_LAYERS, is_plain_op
from bmz.zoo.archive import opened_zip

Config = dict[str, Any]
"""What the file states about the architecture, as plain values."""

_ZIP_CONFIG, _ZIP_WEIGHTS = "config.json", "model.weights.h5"
_DAMAGE = (OSError, RuntimeError, KeyError, TypeError, ValueError)  # those of h5py
_MOST_CONFIG = 2**28  # bytes; those of the largest networks are below 2**24
_MOST_RATIO, _SMALL = 200, 2**28  # as for zips; an array that was never written takes no room
# where Keras keeps what a network is made of: not `keras.utils`, `keras.saving`, `keras.config`,
# whose functions open files and switch the safe mode off
_PARTS = re.compile(
    r"(builtins|keras(\.src)?(\.(activations|constraints|dtype_policies|initializers|layers|losses"
    r"|metrics|models|ops|optimizers|quantizers|regularizers)(\.\w+)*)?)"
)
_CODE = re.compile(
    r"__lambda__|Lambda|\w*(Torch|TFSM|Flax|Jax|JAX)\w*|\w*Lookup|TextVectorization|get_file|load_\w+"
)


class ConfigRefused(CouldNotTell):
    """The configuration of a network names code, or something that opens other files."""

    def __init__(self, path: Path, names: tuple[str, ...]) -> None:
        super().__init__(
            f"the network in '{path.name}' does more than compute: {', '.join(names)}",
            hint="only if you trust its authors: allow it to run its own code with --trust",
            code="package.runs-code",
        )


class NoArchitecture(CouldNotTell):
    """The file has weights, but no architecture that they belong to."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"'{path.name}' cannot be loaded: this file holds weights without an architecture",
            hint="choose other --weights; the model's authors must save the whole model instead",
            code="weights.architecture",
        )


def read_config(path: Path) -> Config:
    """Read the configuration of a ``.keras`` or HDF5 file, and check the rest of the file.

    Raises
    ------
    WeightsUnreadable
        The file is absent, damaged, of another format, or takes parts from other files.
    ArchiveRefused
        Members of the zip leave it, are links, would become far larger when unpacked, or are
        not the same for all programs.
    NoArchitecture
        The file holds only weights.
    NoBackend
        h5py is not installed.
    """
    try:
        if zipfile.is_zipfile(path):
            return _of_zip(path)
        with path.open("rb") as stream:
            text = _of_hdf5(stream, path)
    except EOFError as why:  # the exception has no message
        raise WeightsUnreadable(path, "keras", "it ends within a member") from why
    except (*_DAMAGE, zipfile.BadZipFile, zlib.error) as why:
        words = str(why).replace("\n", " ")
        raise WeightsUnreadable(path, "keras", words) from why
    if text is None:
        raise NoArchitecture(path)
    return _config(text, path)


def config_code(config: Config) -> tuple[str, ...]:
    """List what a configuration would run besides the layers of Keras.

    Examples
    --------
    >>> config_code({"class_name": "Lambda", "config": {"name": "twice"}})
    ('Lambda',)
    """
    return tuple(sorted(set(_code_in(config))))


def keras_code(path: Path) -> tuple[str, ...]:
    """List what in a file of Keras is code, or opens other files; see `read_config`."""
    try:
        return config_code(read_config(path))
    except NoArchitecture:
        return ()  # it contains nothing that could run


def write_config(path: Path, config: Config) -> None:
    """Put another configuration into a file, in place."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in (members | {_ZIP_CONFIG: json.dumps(config)}).items():
                archive.writestr(name, content)
        return
    import h5py

    with h5py.File(path, "r+") as file:
        file.attrs["model_config"] = json.dumps(config)


def _of_zip(path: Path) -> Config:
    with opened_zip(path) as archive:
        names = archive.namelist()
        if _ZIP_CONFIG not in names:
            raise NoArchitecture(path)
        for name in names:
            if name.endswith((".h5", ".hdf5")):
                _of_hdf5(BytesIO(archive.read(name)), path)
        if archive.getinfo(_ZIP_CONFIG).file_size > _MOST_CONFIG:
            raise WeightsUnreadable(path, "keras", f"its {_ZIP_CONFIG} is too large")
        return _config(archive.read(_ZIP_CONFIG), path)


def _of_hdf5(stream: BinaryIO, path: Path) -> str | bytes | None:
    try:
        import h5py
    except ImportError as why:
        reason = f"h5py does not import ({why})"
        raise NoBackend("keras_hdf5", reason, FRAMEWORKS["keras_hdf5"].install) from why
    with h5py.File(stream, "r") as file:
        for fault in _faults(file, h5py):
            raise WeightsUnreadable(path, "keras", fault)
        text: str | bytes | None = file.attrs.get("model_config")
        return text


def _faults(file: Mapping[str, Any], h5py: ModuleType) -> Iterator[str]:
    held = stored = 0
    waiting, addresses = [file["/"]], set[int]()
    while waiting:
        group = waiting.pop()
        for name in group:
            link = group.get(name, getlink=True)
            if isinstance(link, h5py.ExternalLink):
                yield f"its '{name}' lies in another file ('{link.filename}')"
                continue
            if isinstance(link, h5py.SoftLink):
                continue  # its target is checked where it lies
            part = group[name]
            address = h5py.h5o.get_info(part.id).addr
            if address in addresses:
                continue
            addresses.add(address)
            if isinstance(part, h5py.Group):
                waiting.append(part)
            elif isinstance(part, h5py.Dataset):
                if part.external or part.is_virtual:
                    yield f"its '{name}' takes its values from other files"
                held += part.nbytes
                stored += part.id.get_storage_size()
    if held > _SMALL and held > _MOST_RATIO * stored:
        yield f"{stored} bytes would become {held}"


def _config(text: str | bytes, path: Path) -> Config:
    try:
        config = json.loads(text)
    except (TypeError, ValueError, RecursionError) as why:
        raise WeightsUnreadable(path, "keras", f"its configuration is no JSON ({why})") from why
    if not isinstance(config, dict):
        raise WeightsUnreadable(path, "keras", "its configuration is no mapping")
    return config


def _code_in(value: object) -> Iterator[str]:
    waiting = [value]
    while waiting:
        part = waiting.pop()
        if isinstance(part, list):
            waiting.extend(part)
        if isinstance(part, dict):
            yield from _code_of(part)
            waiting.extend(part.values())


def _code_of(part: Config) -> Iterator[str]:
    name, module, registered = (part.get(k) for k in ("class_name", "module", "registered_name"))
    if not isinstance(name, str):
        return
    if _CODE.fullmatch(name):
        yield name
    if name in RAW_LAYERS:
        config = part.get("config")
        function = config.get("function") if isinstance(config, dict) else None
        if not is_plain_op(function):
            yield f"{name} {function}"
    if module is not None and not (isinstance(module, str) and _PARTS.fullmatch(module)):
        yield f"{module}.{name}"
    if name == "function" and module == "builtins" and isinstance(registered, str):
        called = part.get("config")
        if isinstance(called, str) and _CODE.fullmatch(called):
            yield called
