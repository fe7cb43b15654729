"""Join JavaScript modules into one script for a page that is a single file.

A browser does not load modules from files. The modules that tsc checks and that ``bmz open`` serves
one by one are therefore sorted, and each becomes a function that returns its exports.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from graphlib import TopologicalSorter

_IMPORT = re.compile(r'^import \{([^}]*)\} from "\./([\w-]+\.js)";\n', re.MULTILINE)
_EXPORT = re.compile(
    r"^export (?=(?:async )?(?:const|let|class|function\*?)\s+([\w$]+))", re.MULTILINE
)
_LEFT = re.compile(r"^(?:import|export)\b.*", re.MULTILINE)
_TYPES = re.compile(r"^ *(?:/\*\*(?:[^*]|\*(?!/))*\*/|// .*)\n", re.MULTILINE)


class ModuleRefused(ValueError):
    """An import or export of a module has an unsupported form, or a module does not exist."""


def joined(modules: Mapping[str, str]) -> str:
    """Join modules into one script, each after those that it imports.

    Parameters
    ----------
    modules : file name -> text; imports must be named, and each ``export`` must directly precede
        the ``const``, ``class`` or ``function`` that it exports

    Returns
    -------
    str
        script for ``<script type="module">``; comments on their own lines are left out

    Raises
    ------
    ModuleRefused
        An import or export has another form, or a module does not exist.
    graphlib.CycleError
        Modules import each other.
    """
    needs = {name: [other for _, other in _IMPORT.findall(text)] for name, text in modules.items()}
    if lacking := {other for others in needs.values() for other in others} - set(modules):
        raise ModuleRefused(f"there is no module {', '.join(sorted(lacking))}")
    order = TopologicalSorter(needs).static_order()
    return "".join(_as_function(name, modules[name]) for name in order)


def _as_function(name: str, text: str) -> str:
    exported = _EXPORT.findall(text)
    body = _IMPORT.sub(lambda part: f"const {{{part[1]}}} = {_variable(part[2])};\n", text)
    body = _TYPES.sub("", _EXPORT.sub("", body))
    if other := _LEFT.search(body):
        raise ModuleRefused(f"{name}: cannot join '{other[0]}'")
    return (
        f"const {_variable(name)} = (() => {{\n{body}return {{ {', '.join(exported)} }};\n}})();\n"
    )


def _variable(name: str) -> str:
    return "$" + name.removesuffix(".js").replace("-", "_")
