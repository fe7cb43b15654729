from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from bmz.process.recipes import RECIPES
from bmz.spec.facts import (
    TABLE,
    TASKS,
    Fact,
    Facts,
    PackageAbsent,
    bare_alias,
    facts_of,
    fills_channels,
    known_diameter_px,
    known_pixel_size,
    needed_packages,
    refuse_absent_packages,
    task_of,
)
from bmz.spec.model import (
    Architecture,
    AxisSpec,
    Fixed,
    ModelSpec,
    PackagedFile,
    TensorSpec,
    Weights,
)
from bmz.spec.package_files import PackageInvalid
from bmz.spec.read import read_stored
from bmz.testing.package import write_package

NEWER = {"famous-sheep", "idealistic-eagle", "passionate-bug"}
"""Models that came to the zoo after the list of the tests."""

ALIASES = tuple(json.loads(TABLE.read_text(encoding="utf-8")))


def told() -> Iterator[tuple[str, str, Fact[Any]]]:
    """Every fact with alias and name."""
    for alias in ALIASES:
        facts = facts_of(alias)
        for one in fields(Facts):
            fact = getattr(facts, one.name)
            if fact is not None:
                yield alias, one.name, fact


def model(alias: str, *, um: float | None = None, **more: Any) -> ModelSpec:
    unit = None if um is None else "micrometer"
    axes = tuple(AxisSpec(a, "space", Fixed(64), scale=um or 1.0, unit=unit) for a in "zyx")
    tensor = TensorSpec("raw", axes, "float32")
    return ModelSpec("m", "M", Path(), "", "0.5.4", (tensor,), (), (), alias=alias, **more)


def test_the_table_is_in_order_and_indented_so_that_a_change_is_one_line() -> None:
    text = TABLE.read_text(encoding="utf-8")
    table = json.loads(text)

    assert list(table) == sorted(table)
    assert text == json.dumps(table, indent=2, ensure_ascii=False) + "\n"


def test_every_model_of_the_zoo_has_an_entry_and_nothing_else_has(shared: Path) -> None:
    listed = json.loads((shared / "zoo" / "index.json").read_text(encoding="utf-8"))["items"]
    models = {bare_alias(item["id"]) for item in listed if item["type"] == "model"}

    assert set(ALIASES) - NEWER == models
    assert [alias for alias in ALIASES if facts_of(alias) == Facts()] == ["independent-mouse"]


def test_every_fact_names_its_source() -> None:
    assert [(alias, name) for alias, name, fact in told() if not fact.source.strip()] == []


def test_every_recipe_and_parameter_exists_and_is_within_its_range() -> None:
    for alias, name, fact in told():
        if name != "recipe":
            continue
        assert bool(fact.value.name) != bool(fact.value.reason), alias
        if fact.value.name:
            RECIPES[fact.value.name].parameters_from(fact.value.parameters, {})


def test_values_are_of_the_words_and_units_that_are_used() -> None:
    for alias, name, fact in told():
        if name == "task":
            assert fact.value in TASKS, alias
        if name == "polarity":
            assert fact.value in {"bright", "dark"}, alias
        if name == "pixel_um":
            assert set(fact.value) <= set("zyx"), alias
            assert all(0.001 < um < 10 for um in fact.value.values()), alias
        if name in {"channels", "output_channels"}:
            assert all(isinstance(one, str) and one for one in fact.value), alias


def test_channels_of_a_recipe_are_among_those_whose_meaning_is_told() -> None:
    for alias, name, fact in told():
        facts = facts_of(alias)
        if name != "recipe" or facts is None or facts.output_channels is None:
            continue
        count = len(facts.output_channels.value)
        used = {k: v for k, v in fact.value.parameters.items() if k.endswith("channel")}
        assert all(number < count for number in used.values()), alias


def test_facts_agree_with_the_descriptions(
    live_descriptions: Mapping[str, ModelSpec | PackageInvalid],
) -> None:
    for alias in sorted(set(ALIASES) - NEWER):
        described = live_descriptions[alias]
        if isinstance(described, PackageInvalid):
            continue
        facts = facts_of(alias)
        assert described.alias == alias
        assert facts is not None
        if facts.output_channels is not None:
            counts = {tensor.channels for tensor in described.outputs}
            assert len(facts.output_channels.value) in counts, alias
        if facts.recipe is not None and facts.recipe.value.output:
            assert facts.recipe.value.output in {t.id for t in described.outputs}, alias
        if facts.channels is not None:
            counts = {tensor.channels for tensor in described.inputs}
            assert len(facts.channels.value) in counts, alias


def field_of(content: Any, path: str) -> Any:
    """Give what stands at a dotted path; a list of tensors is looked into by name."""
    for part in path.split("."):
        if isinstance(content, list):
            named = [one for one in content if part in {one.get("id"), one.get("name")}]
            content = named[0] if named else content[0].get(part)
        else:
            content = content.get(part)
    return content


@pytest.mark.parametrize("root", ["weights", "config"])
def test_a_field_of_a_manifest_that_a_source_names_is_there(shared: Path, root: str) -> None:
    yaml = pytest.importorskip("yaml")
    seen = 0
    for alias, name, fact in told():
        for path in re.findall(rf"\b{root}(?:\.\w+)+", fact.source):
            text = (shared / "zoo" / "models" / alias / "rdf.yaml").read_text(encoding="utf-8")
            assert field_of(yaml.load(text, yaml.CSafeLoader), path) is not None, (alias, name)
            seen += 1

    assert seen > 0


@pytest.mark.parametrize(
    "name", ["affable-shark", "affable-shark/v0", "bioimage-io/affable-shark", " affable-shark/1.2"]
)
def test_zoo_and_version_around_an_alias_do_not_matter(name: str) -> None:
    facts = facts_of(name)

    assert facts is not None
    assert facts == facts_of("affable-shark")


@pytest.mark.parametrize("name", ["", "starter/nuclei", "10.5281/zenodo.1", "unheard-shark", "v0"])
def test_what_is_no_alias_of_the_zoo_has_no_facts(name: str) -> None:
    assert facts_of(name) is None


def named(content: dict[str, Any], **names: Any) -> None:
    nickname = names.pop("nickname", None)
    content.update(names)
    if nickname is not None:
        ours = content.setdefault("config", {}).setdefault("bioimageio", {})
        ours["nickname"] = nickname


@pytest.mark.parametrize(
    ("names", "alias"),
    [
        ({"id": "affable-shark"}, "affable-shark"),
        ({"id": "10.5281/zenodo.1/2", "nickname": "affable-shark"}, "affable-shark"),
        ({"id": "10.5281/zenodo.1/2"}, ""),
        ({}, ""),
    ],
)
def test_the_manifest_tells_the_alias_and_the_folder_does_not(
    tmp_path: Path, names: Mapping[str, str], alias: str
) -> None:
    pytest.importorskip("onnx")
    folder = tmp_path / "modest-octopus"
    manifest = write_package(folder, change=lambda content: named(content, **names))

    read = read_stored(manifest, model_id=folder.name, notes=[tmp_path / "notes"])

    assert read.alias == alias
    assert read_stored(manifest, notes=[tmp_path / "notes"]).alias == alias


def test_the_zoo_tells_the_alias_where_the_manifest_does_not(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    manifest = write_package(tmp_path / "m")

    assert read_stored(manifest, model_id="a", alias="affable-shark").alias == "affable-shark"


def test_a_declared_pixel_size_wins_over_the_curated_one() -> None:
    known = known_pixel_size(model("passionate-t-rex"))
    declared = known_pixel_size(model("passionate-t-rex", um=2.0))

    assert known.um == {"z": 0.235, "y": 0.15, "x": 0.15}
    assert "manifest: description" in known.source
    assert declared.um == {"z": 2.0, "y": 2.0, "x": 2.0}
    assert declared.source == ""
    assert known_pixel_size(model("")).um == {}


def test_a_diameter_in_the_configuration_wins_over_the_curated_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    known = Facts(object_diameter_px=Fact(30.0, "a page"))
    monkeypatch.setattr("bmz.spec.facts.facts_of", lambda _alias: known)
    config = {"bmz": {"object_diameter_px": 12}}

    assert known_diameter_px(model("affable-shark")) == Fact(30.0, "a page")
    assert known_diameter_px(model("affable-shark", config=config)) == Fact(12, "")
    assert known_diameter_px(model("")) is None


def test_a_curated_task_counts_where_no_tag_names_one() -> None:
    panda = model("philosophical-panda", tags=("cellpose",))

    assert task_of(panda) == "instance-segmentation"
    assert task_of(replace(panda, tags=("denoising",))) == "denoising"
    assert task_of(replace(panda, alias="")) is None


def test_facts_are_read_without_numpy_and_only_when_they_are_asked_for() -> None:
    program = """
import sys
from bmz.spec import facts
assert not facts._table.cache_info().currsize
assert facts.facts_of("affable-shark") is not None
sys.exit("numpy" in sys.modules)
"""

    done = subprocess.run([sys.executable, "-c", program], check=False)

    assert done.returncode == 0


def with_code(alias: str, library: str = "") -> ModelSpec:
    file = PackagedFile(Path("net.py")) if not library else None
    built = Architecture("Net", code=file, library=library)
    weights = Weights("pytorch_state_dict", PackagedFile(Path("weights.pt")), architecture=built)
    return replace(model(alias), weights=(weights,))


@pytest.mark.parametrize(
    ("alias", "library", "name", "install"),
    [
        ("famous-fish", "", "cellpose", "cellpose"),
        ("diplomatic-bug", "", "segment_anything", "segment-anything"),
        ("stupendous-sheep", "", "empanada", "empanada-dl"),
        ("", "no_such_careamics.models.unet", "no_such_careamics", "no_such_careamics"),
        ("", "numpy.linalg", None, None),
        ("affable-shark", "", None, None),
    ],
)
def test_packages_that_the_code_of_a_model_needs_are_known_before_the_download(
    alias: str, library: str, name: str | None, install: str | None
) -> None:
    needed = needed_packages(with_code(alias, library))

    assert [(one.name, one.install) for one in needed] == ([(name, install)] if name else [])
    assert all(one.source for one in needed)


def test_weights_whose_code_needs_an_absent_package_are_refused() -> None:
    code = with_code("", "no_such_package.nets")

    refuse_absent_packages(with_code("", "json"), "pytorch_state_dict")
    refuse_absent_packages(code, "onnx")
    with pytest.raises(PackageAbsent, match="no_such_package") as why:
        refuse_absent_packages(code, "pytorch_state_dict")

    assert why.value.code == "weights.no-backend"


@pytest.mark.parametrize("alias", sorted(NEWER))
def test_newer_models_of_cellpose_fill_channels_with_zeros(alias: str) -> None:
    facts = facts_of(alias)

    assert facts is not None
    assert facts.channels is not None
    assert len(facts.channels.value) == 3
    assert fills_channels(model(alias))
    assert not fills_channels(model("affable-shark"))
