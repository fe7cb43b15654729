"""The list of trusted code: it remembers by sha256, and is never guessed at."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from bmz.zoo.settings import (
    TrustedCode,
    TrustUnreadable,
    ZooSettings,
    add_trust,
    place,
    read_trust,
    remove_trust,
)


def entry(number: int, model: str = "net") -> TrustedCode:
    sha256 = f"{number:064x}"
    return TrustedCode(sha256, model, "pytorch_state_dict", f"Net {number}", "2026-01-01T00:00:00")


@pytest.fixture
def settings(tmp_path: Path) -> ZooSettings:
    return ZooSettings(tmp_path / "cache")


def test_nothing_is_trusted_at_first(settings: ZooSettings) -> None:
    assert read_trust(settings) == ()
    assert not settings.cache.exists()


def test_what_is_added_is_there_until_it_is_removed(settings: ZooSettings) -> None:
    add_trust(settings, [entry(1), entry(2)])

    gone = remove_trust(settings, [entry(1).sha256, "unheard-of"])

    assert gone == (entry(1),)
    assert read_trust(settings) == (entry(2),)


def test_code_that_is_added_again_keeps_its_date(settings: ZooSettings) -> None:
    add_trust(settings, [entry(1)])

    add_trust(settings, [TrustedCode(entry(1).sha256, "other", "onnx", "x", "2027-01-01T00:00:00")])

    assert read_trust(settings) == (entry(1),)


def test_shared_cache_folders_have_no_say(settings: ZooSettings, tmp_path: Path) -> None:
    shared = ZooSettings(tmp_path / "shared")
    add_trust(shared, [entry(1)])

    assert read_trust(ZooSettings(settings.cache, layers=(shared.cache,))) == ()


def test_entries_of_several_processes_do_not_push_each_other_out(settings: ZooSettings) -> None:
    adding = [threading.Thread(target=add_trust, args=(settings, [entry(n)])) for n in range(8)]

    for one in adding:
        one.start()
    for one in adding:
        one.join()

    assert {one.sha256 for one in read_trust(settings)} == {entry(n).sha256 for n in range(8)}


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        json.dumps({"schema": "bmz.trust/2", "trusted": []}),
        json.dumps({"schema": "bmz.trust/1", "trusted": [{"sha256": "a"}]}),
    ],
)
def test_a_damaged_list_trusts_nothing_and_is_left_alone(settings: ZooSettings, text: str) -> None:
    settings.cache.mkdir()
    place(settings).write_text(text)

    with pytest.raises(TrustUnreadable) as refused:
        add_trust(settings, [entry(1)])

    assert refused.value.code == "trust.unreadable"
    assert place(settings).read_text() == text
