"""Buckets: which credentials are used, how a request is signed, and what is told when it fails."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from bmz.base.errors import BmzError
from bmz.engine.remote_images import S3Settings, s3_settings, signature, url_of

KEYS = {"AWS_ACCESS_KEY_ID": "AKID", "AWS_SECRET_ACCESS_KEY": "secret"}


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "config").write_text(
        "[default]\nregion = eu-west-1\n[profile lab]\nregion = eu-west-2\n"
        "endpoint_url = https://s3.lab.org/\n[profile sso]\nsso_session = lab\n"
    )
    (tmp_path / "credentials").write_text(
        "[default]\naws_access_key_id = A\naws_secret_access_key = B\n"
        "[lab]\naws_access_key_id = C\naws_secret_access_key = D%\naws_session_token = E\n"
    )
    return {
        "AWS_CONFIG_FILE": str(tmp_path / "config"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "credentials"),
    }


def test_a_request_is_signed_as_amazon_documents_it() -> None:
    # https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html, GET Object
    settings = S3Settings(
        "", "", "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
    )

    headers = signature(
        "https://examplebucket.s3.amazonaws.com/test.txt",
        settings,
        datetime(2013, 5, 24, tzinfo=UTC),
        {"range": "bytes=0-9"},
    )

    assert headers["Authorization"].endswith(
        "/20130524/us-east-1/s3/aws4_request,"
        "SignedHeaders=host;range;x-amz-content-sha256;x-amz-date,"
        "Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
    )


def test_without_keys_or_a_named_profile_nothing_is_signed(files: dict[str, str]) -> None:
    settings = s3_settings(files)

    assert settings == S3Settings()
    assert signature("https://b.s3.amazonaws.com/a", settings) == {}


def test_a_token_is_signed_and_sent() -> None:
    settings = s3_settings({**KEYS, "AWS_SESSION_TOKEN": "token"})

    headers = signature("https://b.s3.amazonaws.com/a", settings)

    assert headers["x-amz-security-token"] == "token"
    assert ";x-amz-security-token," in headers["Authorization"]


def test_a_named_profile_gives_keys_region_and_endpoint(files: dict[str, str]) -> None:
    lab = s3_settings({**files, "AWS_PROFILE": "lab"})
    default = s3_settings({**files, "AWS_PROFILE": "default"})

    assert lab == S3Settings("https://s3.lab.org", "eu-west-2", "C", "D%", "E")
    assert default == S3Settings("", "eu-west-1", "A", "B")


def test_variables_outdo_a_profile(files: dict[str, str]) -> None:
    more = {"AWS_PROFILE": "lab", "AWS_REGION": "us-west-1", "AWS_ENDPOINT_URL": "http://here"}

    assert s3_settings({**files, **KEYS, **more}) == S3Settings(
        "http://here", "us-west-1", "AKID", "secret"
    )


@pytest.mark.parametrize(
    ("variables", "why"),
    [
        ({"AWS_ACCESS_KEY_ID": "AKID"}, "AWS_SECRET_ACCESS_KEY is not set"),
        ({"AWS_PROFILE": "none"}, "there is no profile 'none'"),
        ({"AWS_PROFILE": "sso"}, "the profile 'sso' has no keys"),
    ],
)
def test_keys_that_are_not_whole_are_told(
    variables: dict[str, str], why: str, files: dict[str, str]
) -> None:
    with pytest.raises(BmzError, match=why) as caught:
        s3_settings({**files, **variables})

    assert caught.value.code == "image.credentials"
    assert "export-credentials" in caught.value.hint


def test_a_file_of_profiles_that_is_damaged_is_told(files: dict[str, str]) -> None:
    Path(files["AWS_CONFIG_FILE"]).write_text("no section = 1\n")

    with pytest.raises(BmzError, match="cannot be read"):
        s3_settings({**files, "AWS_PROFILE": "lab"})


@pytest.mark.parametrize(
    ("settings", "url"),
    [
        (S3Settings(), "https://b.s3.amazonaws.com/x%2By/a%20b.tif"),
        (S3Settings("http://h:9000"), "http://h:9000/b/x%2By/a%20b.tif"),
    ],
)
def test_a_key_is_quoted_as_it_is_signed(settings: S3Settings, url: str) -> None:
    assert url_of("s3://b/x+y/a b.tif", settings) == url


def test_a_bucket_with_dots_is_named_behind_the_host() -> None:
    assert url_of("s3://a.b/c", S3Settings(region="eu-west-1")) == (
        "https://s3.eu-west-1.amazonaws.com/a.b/c"
    )
