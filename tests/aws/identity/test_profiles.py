"""Logins as profiles describe them: the advice that fits, and the end of a token."""

import hashlib
import json

import pytest

from ssmtunneld.aws.identity.mfa_cache import MfaRole, cache_folder
from ssmtunneld.aws.identity.profiles import (
    LoginNeeds,
    human_end,
    needs_of,
    profile_chain,
    profile_names,
    renewal_advice,
    token_expiry,
    token_name,
)
from ssmtunneld.base.service_unit import ServiceUnit

PROFILES = {
    "default": {"sso_session": "corp"},
    "prod": {"sso_start_url": "https://x"},
    "role": {"role_arn": "arn", "source_profile": "prod"},
    "mfa": {"role_arn": "arn", "source_profile": "static", "mfa_serial": "arn"},
    "behind": {"role_arn": "arn", "source_profile": "mfa"},
    "no-role": {"mfa_serial": "arn"},
    "a b": {"sso_session": "corp"},
    "login": {"login_session": "arn"},
    "process": {"credential_process": "x"},
    "static": {},
    "loop-a": {"source_profile": "loop-b"},
    "loop-b": {"source_profile": "loop-a"},
}


@pytest.mark.parametrize(
    ("profile", "method", "advice"),
    [
        ("default", "sso", "run: aws sso login"),
        ("prod", "sso", "run: aws sso login --profile prod"),
        # The role's own profile could not log in: it has no SSO settings.
        ("role", "assume-role", "run: aws sso login --profile prod"),
        ("login", "login", "run: aws login --profile login"),
        ("mfa", "", "run: ssmtunneld login db"),
        ("behind", "assume-role", "run: ssmtunneld login db"),
        ("no-role", "", "write new keys of profile no-role"),
        ("a b", "", "run: aws sso login --profile 'a b'"),
        ("process", "", "run the credential_process of profile process"),
        ("prod", "env", "start ssmtunneld again with new keys"),
        ("static", "iam-role", "check the role of this instance"),
        ("static", "container-role", "check the role of this container"),
        ("static", "assume-role-with-web-identity", "check the web identity token"),
        ("loop-a", "assume-role", "check that the source profile may still"),
        ("static", "shared-credentials-file", "write new keys of profile static"),
        ("missing", "", "write new keys of profile missing"),
    ],
)
def test_the_advice_fits_the_provider(profile, method, advice):
    found = renewal_advice(PROFILES, profile, method, "ssmtunneld login db")
    assert found.startswith(advice)


def test_a_service_gets_keys_from_its_file_and_a_restart():
    unit = ServiceUnit("~/.config/x/environment", "systemctl --user restart x")
    found = renewal_advice(PROFILES, "prod", "env", unit=unit)
    assert found.startswith(
        "write new keys to ~/.config/x/environment and run: systemctl --user restart x;"
    )
    assert renewal_advice(PROFILES, "prod", "sso", unit=unit).startswith("run: aws")


def test_a_chain_of_profiles_ends_even_if_it_is_a_loop():
    assert profile_chain(PROFILES, "role") == ["role", "prod"]
    assert profile_chain(PROFILES, "loop-a") == ["loop-a", "loop-b"]


@pytest.mark.parametrize(
    ("profile", "name"),
    [
        ({"sso_session": "corp", "sso_start_url": "https://x"}, "corp"),
        ({"sso_start_url": "https://x"}, "https://x"),
        ({"sso_session": {}}, None),
        ({}, None),
    ],
)
def test_a_token_is_named_after_its_session_or_its_start(profile, name):
    assert token_name(profile) == name


def test_a_login_takes_the_first_command_and_any_code():
    login = ("aws", "sso", "login", "--profile", "prod")
    assert needs_of(PROFILES, "role") == LoginNeeds(login, "prod", code=False)
    assert needs_of(PROFILES, "default").command == ("aws", "sso", "login")
    assert needs_of(PROFILES, "behind") == LoginNeeds((), "", code=True)
    assert needs_of(PROFILES, "static") == LoginNeeds((), "", code=False)


@pytest.fixture
def write_token(aws_files, tmp_path):
    folder = tmp_path / ".aws" / "sso" / "cache"
    folder.mkdir(parents=True)

    def write(text):
        name = hashlib.sha1(b"corp").hexdigest()
        (folder / f"{name}.json").write_text(text)

    return write


def test_a_token_ends_when_its_file_says(write_token):
    write_token(json.dumps({"expiresAt": "2026-01-01T00:00:00Z"}))
    assert token_expiry("corp") == 1767225600.0


def test_a_token_that_renews_itself_has_no_end(write_token):
    write_token(json.dumps({"expiresAt": "2026-01-01T00:00:00Z", "refreshToken": "r"}))
    assert token_expiry("corp") is None


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"expiresAt": "soon"}', "1"])
def test_a_file_that_is_half_written_tells_nothing(write_token, text):
    write_token(text)
    assert token_expiry("corp") is None


@pytest.mark.parametrize(
    "text", ["null", "[]", "5", '{"expiresAt": 5}', '{"expiresAt": []}', "[" * 20000]
)
def test_a_file_of_any_shape_tells_nothing(write_token, text):
    write_token(text)
    assert token_expiry("corp") is None


def test_a_human_must_act_at_the_first_end_of_the_chain(write_token):
    write_token(json.dumps({"expiresAt": "2026-01-01T00:00:00Z"}))
    assert human_end({"prod": {"sso_session": "corp"}}, "prod") == 1767225600.0
    assert human_end(PROFILES, "static") is None


def test_what_is_behind_a_session_of_a_role_may_end(write_token):
    write_token(json.dumps({"expiresAt": "2026-01-01T00:00:00Z"}))
    profiles = {
        "mfa": {"role_arn": "arn", "mfa_serial": "arn", "source_profile": "sso"},
        "sso": {"sso_session": "corp"},
    }
    assert human_end(profiles, "mfa") is None
    role = MfaRole("arn", "arn")
    cache_folder().mkdir(parents=True)
    keys = dict.fromkeys(("AccessKeyId", "SecretAccessKey", "SessionToken"), "x")
    session = {"Credentials": {**keys, "Expiration": "2026-06-01T00:00:00Z"}}
    (cache_folder() / f"{role.key}.json").write_text(json.dumps(session))
    assert human_end(profiles, "mfa") == 1780272000.0


@pytest.mark.parametrize("name", [None, "other"])
def test_no_token_has_no_end(aws_files, name):
    assert token_expiry(name) is None


def test_the_names_of_profiles_are_listed(aws_files):
    aws_files.config.write_text("[default]\n[profile prod]\n")
    aws_files.credentials.write_text("[dev]\naws_access_key_id = x\n")
    assert profile_names() == ["default", "prod", "dev"]


def test_files_that_make_no_sense_have_none(aws_files):
    aws_files.config.write_text("[[[\n=")
    assert profile_names() == []
