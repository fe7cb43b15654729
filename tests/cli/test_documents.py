"""Every JSON document that a command prints keeps the schema that is shipped, and says no more."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from bmz.cli.main import status_of
from bmz.report.reference import DOCUMENTS, file_of, schema_of, schema_text, schemas_page
from bmz.testing.package import description, put_state_dict, small_zoo, write_package

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
torch = pytest.importorskip("torch")

from bmz.predict.known_networks import StyledLayout, StyledUNet  # noqa: E402

COMMANDS: dict[str, tuple[tuple[str, ...], ...]] = {
    "bmz.search/1": (("search",), ("search", "cat")),
    "bmz.show/1": (("show", "able-cat"), ("show", "./net"), ("show", "starter/nuclei")),
    "bmz.fetch/1": (("fetch", "able-cat", "no-such-cat", "--weights", "all"),),
    "bmz.cache/1": (("cache", "list"),),
    "bmz.cache-verify/1": (("cache", "verify"),),
    "bmz.cache-archive/1": (("cache", "export", "zoo.tar", "able-cat"),),
    "bmz.cache-remove/1": (("cache", "remove", "able-cat"),),
    "bmz.check/1": (("check", "./net", "a.tif", "stack.npy", "absent.tif"),),
    "bmz.fit/1": (("fit", "a.tif"),),
    "bmz.plan/1": (("run", "./net", "a.tif", "stack.npy", "-o", "out", "--plan"),),
    "bmz.run/1": (("run", "./net", "a.tif", "-o", "out"),),
    "bmz.runs/1": (("run", "./net", "a.tif", "b.tif", "stack.npy", "-o", "more", "--memory", "0"),),
    "bmz.chain-plan/1": (("run", "pair.toml", "a.tif", "stack.npy", "-o", "pairs", "--plan"),),
    "bmz.chain/1": (("run", "pair.toml", "a.tif", "stack.npy", "-o", "pairs"),),
    "bmz.score/1": (("score", "out/a.labels.tif", "out/a.labels.tif"),),
    "bmz.test/2": (("test", "./net"), ("test", "--baseline", "base.json")),
    "bmz.compare/1": (
        ("compare", "a.tif", "-m", "./net", "--sweep", "threshold=0.3,0.5", "-o", "page.html"),
    ),
    "bmz.adopt/1": (("adopt", "mine.pth", "a.tif", "-o", "adopted"),),
    "bmz.describe/1": (("describe", "./net", "-o", "better", "--pixel-size", "0.5um"),),
    "bmz.doctor/1": (("doctor",),),
    "bmz.trust/1": (("trust", "list"),),
}
"""Schema -> calls that print a document of it; in this order, for one needs another's files."""


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, list[Any]]]:
    """Call every command on a small zoo, a model and two images, and keep what is printed."""
    folder = tmp_path_factory.mktemp("documents")
    write_package(folder / "zoo" / "able-cat", description(halo=4))
    (folder / "zoo" / "dull-pig").mkdir()
    (folder / "zoo" / "dull-pig" / "rdf.yaml").write_text("a: b: c")
    write_package(folder / "net", description(halo=4))
    coded = folder / "coded"
    code = "class Net: ..."
    write_package(
        coded, description(halo=4), change=lambda content: put_state_dict(coded, content, code, {})
    )
    y, x = np.indices((96, 112))
    image = (np.hypot(y - 40, x - 50) < 9).astype(np.float32)
    for name in ("a", "b"):
        tifffile.imwrite(folder / f"{name}.tif", image, metadata={"axes": "YX"})
    np.save(folder / "stack.npy", np.stack([image] * 3))
    torch.save(StyledUNet(StyledLayout(2, (2, 4), 3, 3)).state_dict(), folder / "mine.pth")
    step = '[[step]]\nmodel = "./net"\n'
    (folder / "pair.toml").write_text(f'{step}{step}pair = "from:1"\n', encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch, small_zoo(folder / "zoo") as served:
        patch.chdir(folder)
        patch.setenv("BMZ_OFFLINE", "0")
        patch.setenv("BMZ_CACHE_DIR", str(folder / "cache"))
        patch.setenv("BMZ_INDEX_URL", served.index_url)
        assert status_of(["trust", "add", "./coded"]) == 0
        yield {schema: [printed(*call) for call in calls] for schema, calls in COMMANDS.items()}


def printed(*call: str) -> Any:
    told = StringIO()
    with redirect_stdout(told):
        status_of([*call, "--json"])
    if call == ("test", "./net"):
        Path("base.json").write_text(told.getvalue(), encoding="utf-8")
    return json.loads(told.getvalue())


def strict(node: Any) -> Any:
    """Give a schema in which an object has no fields but those that are named."""
    if isinstance(node, list):
        return [strict(one) for one in node]
    if not isinstance(node, dict):
        return node
    closed = {key: strict(value) for key, value in node.items()}
    if "properties" in node and isinstance(node["properties"], dict) and "required" in node:
        closed["additionalProperties"] = False
    return closed


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_document_has_the_fields_of_its_schema_and_no_others(
    name: str, documents: dict[str, list[Any]]
) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads(file_of(name).read_text(encoding="utf-8"))
    validator = jsonschema.Draft202012Validator(strict(schema))

    for document in documents[name]:
        wrong = [
            f"{'.'.join(map(str, e.path))}: {e.message}" for e in validator.iter_errors(document)
        ]
        assert wrong == []


def test_documents_of_every_schema_are_looked_at() -> None:
    assert set(COMMANDS) == set(DOCUMENTS)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_schemas_are_valid_and_those_of_the_code(name: str) -> None:
    jsonschema = pytest.importorskip("jsonschema")

    jsonschema.Draft202012Validator.check_schema(schema_of(name))

    assert file_of(name).read_text(encoding="utf-8") == schema_text(name)


def test_a_document_with_a_wrong_field_is_told_apart(documents: dict[str, list[Any]]) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    validator = jsonschema.Draft202012Validator(schema_of("bmz.check/1"))
    (document,) = documents["bmz.check/1"]
    wrong = json.loads(json.dumps(document))
    wrong["images"][0]["findings"].append({"code": "axes.order"})

    assert validator.is_valid(document)
    assert validator.is_valid(document | {"new": 1})
    assert not validator.is_valid(wrong)
    assert not validator.is_valid(document | {"schema": "bmz.check/2"})


def test_the_page_of_documents_is_that_of_the_code() -> None:
    page = Path(__file__).parents[2] / "docs" / "reference" / "json.md"

    assert page.read_text(encoding="utf-8") == schemas_page()
