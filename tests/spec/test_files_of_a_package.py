"""Where the files lie that a manifest names, under which sha256, and which names are refused."""

from __future__ import annotations

import hashlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bmz.spec.model import PackagedFile
from bmz.spec.package_files import (
    FileMissing,
    HashDiffers,
    PackageInvalid,
    PathLeavesPackage,
    verified,
)
from bmz.spec.translate import Source

FOLDER = Path("models") / "m"
ONE, OTHER = "1" * 64, "2" * 64


def source(content: dict[str, Any] | None = None) -> Source:
    return Source(FOLDER / "rdf.yaml", "0" * 64, content or {}, ())


@pytest.mark.parametrize(
    ("written", "path"),
    [
        ("a.npy", "a.npy"),
        ("./a.npy", "a.npy"),
        ("sub/a.npy", "sub/a.npy"),
        ("sub\\deep\\a.npy", "sub/deep/a.npy"),
        ("a b\u00e9.npy", "a b\u00e9.npy"),
        ("...npy", "...npy"),
        ("sub/c:a.npy", "sub/c:a.npy"),
    ],
)
def test_a_file_lies_in_the_folder_of_the_manifest(written: str, path: str) -> None:
    assert source().file(written) == PackagedFile(FOLDER / path)


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://example.com/files/a.npy", "a.npy"),
        ("https://example.com/files/a.npy?download=1&b=c", "a.npy"),
        ("http://example.com/a%20b.npy", "a%20b.npy"),
    ],
)
def test_a_remote_file_will_lie_beside_the_manifest_under_its_last_name(
    url: str, name: str
) -> None:
    assert source().file(url) == PackagedFile(FOLDER / name, None, url)


@pytest.mark.parametrize(
    "written",
    [
        "../a.npy",
        "sub/../../a.npy",
        "sub\\..\\..\\a.npy",
        "/etc/passwd",
        "\\\\server\\share\\a.npy",
        "C:\\a.npy",
        "c:a.npy",
        "https://example.com/..",
        "https://example.com/C:a.npy",
    ],
)
def test_a_name_that_leads_out_of_the_package_is_refused(written: str) -> None:
    with pytest.raises(PathLeavesPackage) as caught:
        source().file(written)

    assert (caught.value.code, caught.value.exit_status) == ("package.path", 3)


@given(
    st.text(max_size=40)
    | st.lists(st.sampled_from(["..", "a", "/", "\\", ":", "://"])).map("".join)
)
def test_no_name_at_all_leads_out_of_the_package(written: str) -> None:
    try:
        path = source().file(written).path
    except (PathLeavesPackage, PackageInvalid):
        return

    inside = (Path("/root") / path).resolve()
    assert inside.is_relative_to(Path("/root") / FOLDER)


@pytest.mark.parametrize(("name", "refused"), [("a" * 255, False), ("a" * 256, True)])
def test_a_name_has_as_many_bytes_as_a_file_system_takes(name: str, refused: bool) -> None:
    for written in (name, f"sub/{name}", "\u00e9" * (len(name) // 2) + "a" * (len(name) % 2)):
        if refused:
            with pytest.raises(PackageInvalid, match="not a valid file name"):
                source().file(written)
        else:
            assert source().file(written).path == FOLDER / written


@pytest.mark.parametrize("written", ["a\x00.npy", "a\n.npy", "sub/\x1b[31m.npy", "\ud800"])
def test_a_name_that_cannot_be_printed_is_refused(written: str) -> None:
    with pytest.raises(PackageInvalid):
        source().file(written)


def test_a_sha256_is_that_of_the_parsed_file_or_else_of_the_manifest_as_written() -> None:
    content = {"weights": {"onnx": {"source": "./a.onnx", "sha256": ONE}}}
    parsed = SimpleNamespace(source="a.onnx", sha256=OTHER)
    dropped = SimpleNamespace(source="a.onnx", sha256=None)

    assert source(content).file(parsed).sha256 == OTHER
    assert source(content).file(dropped).sha256 == ONE
    assert source(content).file("b.onnx").sha256 is None


@pytest.mark.parametrize(
    ("written", "stated"),
    [
        ("a.npy", "a.npy"),
        ("a.npy", "./a.npy"),
        ("sub/a.npy", "sub\\a.npy"),
        ("sub\\a.npy", "sub\\a.npy"),
        ("https://example.com/a.npy?download=1", "https://example.com/a.npy?download=1"),
    ],
)
def test_the_sha256_is_found_however_the_manifest_writes_the_name(
    written: str, stated: str
) -> None:
    nested = {"a": [{"source": 3, "sha256": OTHER}, {"b": {"source": stated, "sha256": ONE}}]}

    assert source(nested).file(written).sha256 == ONE


@pytest.mark.parametrize(
    "stated", ["sub/a.npy", "b.npy", "https://example.com/a.npy", "https://example.org/b/a.npy"]
)
def test_the_sha256_of_another_file_of_that_name_is_not_taken(stated: str) -> None:
    content = {"weights": {"onnx": {"source": stated, "sha256": ONE}}}

    assert source(content).file("a.npy").sha256 is None
    assert source(content).file("https://example.org/a.npy").sha256 is None


def test_an_entry_without_a_sha256_does_not_hide_one_with_it() -> None:
    content = {"a": {"source": "a.npy", "sha256": None}, "b": [{"source": "a.npy", "sha256": ONE}]}

    assert source(content).file("a.npy").sha256 == ONE


def test_a_verified_file_is_given_back_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    path.write_bytes(b"x")
    for sha256 in (None, "", hashlib.sha256(b"x").hexdigest()):
        file = PackagedFile(path, sha256)

        assert verified(file, "test tensor", tmp_path) is file


def test_what_is_wrong_with_a_file_is_told_in_short_and_with_the_next_step(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    with pytest.raises(FileMissing) as missing:
        verified(PackagedFile(path), "test tensor", tmp_path)
    path.write_bytes(b"x")
    with pytest.raises(HashDiffers) as differs:
        verified(PackagedFile(path, ONE), "test tensor", tmp_path)

    found = hashlib.sha256(b"x").hexdigest()[:12]
    assert missing.value.message == (
        f"the package has no file 'a.npy' (test tensor); wanted it at '{path}'"
    )
    assert missing.value.code == "package.missing-file"
    assert differs.value.message == (
        f"'a.npy' is not the file described: wanted sha256 111111111111\u2026, found {found}\u2026"
    )
    assert differs.value.code == "package.hash-differs"


@pytest.mark.parametrize("linked", ["file", "folder"])
def test_a_link_out_of_the_package_is_refused_and_one_within_it_is_not(
    tmp_path: Path, linked: str
) -> None:
    package, outside = tmp_path / "package", tmp_path / "package-of-others"
    for folder in (package, outside):
        (folder / "sub").mkdir(parents=True)
        (folder / "sub" / "a.npy").write_bytes(b"x")
    ends = {"file": ("link.npy", "sub/a.npy"), "folder": ("link", "sub")}[linked]
    name = "link.npy" if linked == "file" else "link/a.npy"
    (package / ends[0]).symlink_to(package / ends[1])

    inside = verified(PackagedFile(package / name), "weights", package)
    (package / ends[0]).unlink()
    (package / ends[0]).symlink_to(outside / ends[1])

    assert inside.path == package / name
    with pytest.raises(PathLeavesPackage, match=r"sub/a\.npy.*outside of it"):
        verified(PackagedFile(package / name), "weights", package)
