"""Manifests that would swell or nest without end are found before they are built."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruyaml import YAML
from ruyaml.error import YAMLError

from bmz.spec import read as yaml_guard
from bmz.spec.read import ManifestRefused, content_of


def fault_of(text: str) -> str:
    """Give why a text is refused; empty if it is accepted."""
    try:
        content_of(text)
    except ManifestRefused as why:
        return str(why)
    return ""


def test_aliases_are_counted_as_what_they_stand_for() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]

    assert "expand" in fault_of("\n".join(lines))
    assert fault_of("\n".join(lines[:4])) == ""


@pytest.mark.parametrize(("depth", "refused"), [(40, False), (200, True), (100_000, True)])
def test_depth_is_bounded(depth: int, *, refused: bool) -> None:
    assert bool(fault_of("[" * depth + "]" * depth)) == refused


def test_length_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yaml_guard, "MOST_BYTES", 10)

    assert fault_of("name: abcd") == ""
    assert "longer than 10" in fault_of("name: abcde")


Node = st.recursive(
    st.one_of(st.integers(), st.booleans(), st.text(st.characters(categories=["L"]), max_size=3)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text("abc", min_size=1), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(Node, st.integers(1, 40))
def test_the_count_is_that_of_the_values_in_memory(node: object, most: int) -> None:
    import io

    stream = io.StringIO()
    YAML(typ="safe", pure=True).dump([node, node], stream)  # the second is an alias, where it can

    def count(value: object) -> int:
        if isinstance(value, dict):
            return 1 + sum(1 + count(one) for one in value.values())
        if isinstance(value, list):
            return 1 + sum(count(one) for one in value)
        return 1

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(yaml_guard, "MOST_NODES", most)
        assert bool(fault_of(stream.getvalue())) == (count([node, node]) > most)


@pytest.mark.parametrize(
    "text", ["a: yes", "%YAML 1.1\n---\na: yes", "&a [1.5, ~]", "", "1: {b: 0o7}"]
)
def test_values_are_those_that_the_library_builds(text: str) -> None:
    assert content_of(text) == YAML(typ="safe", pure=True).load(text)


def test_what_two_keys_or_two_texts_say_is_refused() -> None:
    for text in ("a: 1\na: 2", "a: 1\n---\nb: 2", "a: *b"):
        with pytest.raises(YAMLError):
            content_of(text)


def test_every_live_manifest_passes(shared: Path) -> None:
    manifests = sorted((shared / "zoo" / "models").glob("*/rdf.yaml"))

    faults = {}
    for path in manifests[:40]:
        text = path.read_text(encoding="utf-8")
        if fault := fault_of(text):
            faults[path.parent.name] = fault

    assert len(manifests) > 100
    assert faults == {}
