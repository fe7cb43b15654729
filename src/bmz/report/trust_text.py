"""The code of models in words: what would run, and what is trusted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from bmz.report.fetch_text import size_words
from bmz.report.text import document_text
from bmz.spec.code import CodeFile, ModelCode
from bmz.zoo.trust import Trusted

if TYPE_CHECKING:
    from bmz.results.documents import TrustDocument


HEADINGS = ("model", "weights", "sha256 of the code", "since", "code")
_SHOWN = 12  # letters of a sha256 that tell codes apart
_IMPORTS = 8  # names that are told; a longer list hides what matters


def code_words(code: ModelCode) -> str:
    """Say in one sentence what would be run.

    Examples
    --------
    >>> code = ModelCode("pytorch_state_dict", "UNet of net.py builds the network",
    ...     (CodeFile("net.py", "ab" * 32, 1200, ("torch", "os")),), "cd" * 32)
    >>> code_words(code)
    'UNet of net.py builds the network (net.py, 1.2 kB, sha256 abababababab, imports torch, os)'
    """
    files = "; ".join(_file_words(file) for file in code.files)
    return f"{code.what} ({files})" if files else code.what


def _file_words(file: CodeFile) -> str:
    parts = [file.name]
    if file.size_bytes is not None:
        parts.append(size_words(file.size_bytes))
    if file.sha256:
        parts.append(f"sha256 {file.sha256[:_SHOWN]}")
    if file.imports:
        more = len(file.imports) - _IMPORTS
        shown = ", ".join(file.imports[:_IMPORTS])
        parts.append(f"imports {shown}" + (f" and {more} more" if more > 0 else ""))
    return ", ".join(parts)


def trust_table(entries: Sequence[Trusted]) -> list[tuple[str, ...]]:
    """Give a line of cells for each entry, under the headings `HEADINGS`."""
    return [
        (entry.model, entry.weights_format, entry.sha256[:_SHOWN], entry.added, entry.what)
        for entry in entries
    ]


def trust_json(entries: Sequence[Trusted]) -> str:
    """Give the entries as one document."""
    document: TrustDocument = {"schema": "bmz.trust/1", "trusted": entries}
    return document_text(document)


def added_words(entries: Sequence[Trusted]) -> list[str]:
    """Say what is trusted from now on."""
    return [
        f"{entry.model} may run its code from now on, confined: {entry.what} "
        f"[{entry.weights_format}, sha256 {entry.sha256[:_SHOWN]}]"
        for entry in entries
    ]


def removed_words(entries: Sequence[Trusted]) -> list[str]:
    """Say what is no longer trusted."""
    return [
        f"{entry.model} may no longer run its code "
        f"[{entry.weights_format}, sha256 {entry.sha256[:_SHOWN]}]"
        for entry in entries
    ]
