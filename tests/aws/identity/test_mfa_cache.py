"""Sessions that a human began: found where the AWS CLI keeps them, and used up."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from botocore.credentials import AssumeRoleCredentialFetcher
from botocore.exceptions import RefreshWithMFAUnsupportedError

from ssmtunneld.aws.identity.mfa_cache import (
    MfaRole,
    cache_folder,
    moment_of,
    read_document,
)
from ssmtunneld.aws.identity.profiles import token_expiry

ROLE = "arn:aws:iam::111122223333:role/Bastion"
DEVICE = "arn:aws:iam::111122223333:mfa/alice"
PLAIN = MfaRole(ROLE, DEVICE)
WHOLE = MfaRole(ROLE, DEVICE, "an-id", "alice", 3600)


def session(access_key="AKIAMFA", minutes=60.0):
    ends = datetime.now(UTC) + timedelta(minutes=minutes)
    return {
        "Credentials": {
            "AccessKeyId": access_key,
            "SecretAccessKey": "canary-secret",
            "SessionToken": "canary-token",
            "Expiration": ends.isoformat(),
        }
    }


def store(content, role=PLAIN):
    cache_folder().mkdir(parents=True, exist_ok=True)
    text = content if isinstance(content, str) else json.dumps(content)
    (cache_folder() / f"{role.key}.json").write_text(text)


@pytest.mark.parametrize("role", [PLAIN, WHOLE])
def test_the_files_name_is_the_one_that_botocore_computes(role):
    # Two tools meet in this file, so their keys must be the same.
    fetcher = AssumeRoleCredentialFetcher(
        None, None, role.arn, extra_args=role.arguments()
    )
    assert role.key == fetcher._create_cache_key()


def test_a_profile_says_what_its_role_asks_for():
    profile = {
        "role_arn": ROLE,
        "mfa_serial": DEVICE,
        "external_id": "an-id",
        "role_session_name": "alice",
        "duration_seconds": "3600",
        "source_profile": "base",
    }
    assert MfaRole.of(profile) == WHOLE


@pytest.mark.parametrize("seconds", ["soon", "", {}])
def test_a_duration_that_is_none_is_left_out_as_botocore_does(seconds):
    profile = {"role_arn": ROLE, "mfa_serial": DEVICE, "duration_seconds": seconds}
    assert MfaRole.of(profile) == PLAIN


@pytest.mark.parametrize(
    "profile",
    [
        {},
        {"role_arn": ROLE},
        {"mfa_serial": DEVICE},
        {"role_arn": ROLE, "mfa_serial": DEVICE, "web_identity_token_file": "/x"},
    ],
)
def test_other_profiles_have_no_such_role(profile):
    assert MfaRole.of(profile) is None


def test_a_stored_session_is_used(aws_files):
    store(session())
    keys = PLAIN.session().get_frozen_credentials()
    assert keys == ("AKIAMFA", "canary-secret", "canary-token", None)


def test_the_shortest_session_is_used_to_its_end(aws_files):
    # botocore would give it up before its first use: 10 minutes before its end.
    store(session(minutes=2))
    assert PLAIN.session().access_key == "AKIAMFA"
    assert PLAIN.ends_at() == pytest.approx(
        (datetime.now(UTC) + timedelta(minutes=2)).timestamp(), abs=30
    )


def test_a_newer_session_takes_over_before_the_end(aws_files):
    store(session(minutes=10))
    found = PLAIN.session()
    assert found.access_key == "AKIAMFA"
    store(session("AKIALATER"))
    assert found.access_key == "AKIALATER"


def test_a_newer_session_that_is_half_written_leaves_the_older_one(aws_files):
    store(session(minutes=10))
    found = PLAIN.session()
    store(json.dumps(session("AKIALATER"))[:50])
    assert found.access_key == "AKIAMFA"


def test_a_session_that_is_over_needs_a_human(aws_files):
    store(session(minutes=0.25))
    with pytest.raises(RefreshWithMFAUnsupportedError):
        PLAIN.session()


def test_a_session_ends_while_it_is_in_use(aws_files):
    store(session())
    late = datetime.now(UTC) + timedelta(hours=2)
    with pytest.raises(RefreshWithMFAUnsupportedError):
        PLAIN.session(lambda: late)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"Credentials": []}',
        '{"Credentials": {"AccessKeyId": "x"}}',
        json.dumps(session()).replace("T", "?"),
    ],
)
def test_a_file_that_is_half_written_is_no_session(aws_files, content):
    store(content)
    assert PLAIN.ends_at() is None
    with pytest.raises(RefreshWithMFAUnsupportedError):
        PLAIN.session()


@pytest.mark.parametrize(
    "content",
    [
        b"null",
        b"[]",
        b"5",
        b"[" * 20000,
        b"\xff\xfe",
        b'{"a": 1}' + b" " * 300_000 + b"x",
    ],
)
def test_any_document_is_an_object_or_none(tmp_path, content):
    file = tmp_path / "file.json"
    file.write_bytes(content)
    assert read_document(file) in ({}, {"a": 1})
    assert read_document(tmp_path) == {}


def test_where_nobody_is_at_home_nothing_is_stored(monkeypatch):
    def nobody(_path):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr("pathlib.Path.expanduser", nobody)
    assert MfaRole("arn:aws:iam::1:role/R", "serial").ends_at() is None
    assert token_expiry("corp") is None


@pytest.mark.parametrize("value", [None, 5, [], {}, "never", "9" * 400, "2026-99-01"])
def test_what_is_no_moment_is_none(value):
    assert moment_of(value) is None


def test_no_file_is_no_session(aws_files):
    assert PLAIN.ends_at() is None
