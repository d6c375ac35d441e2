"""Keys with line ends are mended, others that fit no header refused, none is shown."""

import hashlib
import json
import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssmtunneld.aws.api.port import Identity
from ssmtunneld.aws.client import AwsClient
from ssmtunneld.aws.identity.keys import KeysUnfit, tidy, tidy_environment
from ssmtunneld.errors import CredentialsUnusable
from tests.aws.conftest import ACCESS_KEY, SECRET_KEY, SESSION_TOKEN
from tests.aws.identity.test_credentials import assumed, role
from tests.aws.stub import REGION, Reply
from tests.support.canary import chain, leaks

PARTS = ["access key id", "secret access key", "session token"]
TARGET = "i-0182d91e85d69cf00"


@given(st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E)), st.text("\r\n"))
def test_line_ends_are_stripped(key, end):
    assert tidy(key + end, None, None, whose="x")[0] == key


@pytest.mark.parametrize("position", range(3))
@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("can\rary", "control characters"),
        ("can\x00ary", "control characters"),
        ("canary\t", "control characters"),
        ("canäry", "non-ASCII"),
        ("can\udc80ary", "non-ASCII"),
        (5, "is not text"),
        (["canary"], "is not text"),
        ({"canary": 1}, "is not text"),
    ],
)
def test_what_fits_no_header_is_refused_by_name(position, value, problem):
    parts = ["AKIA", "secret", "token"]
    parts[position] = value
    with pytest.raises(KeysUnfit) as caught:
        tidy(*parts, whose="profile prod")
    told = str(caught.value)
    assert f"the {PARTS[position]} of profile prod" in told
    assert problem in told
    assert "can" not in told


def test_the_environment_is_copied_without_line_ends():
    found = tidy_environment({"AWS_SESSION_TOKEN": "t\r\n", "OTHER": "o\r"})
    assert found == {"AWS_SESSION_TOKEN": "t", "OTHER": "o\r"}


@pytest.fixture
def account(stub, aws_files):
    account = AwsClient(Identity(region=REGION, endpoint_url=stub.url))
    yield account
    account.close()


@pytest.fixture
def prod(stub, aws_files):
    account = AwsClient(Identity("prod", REGION, stub.url))
    yield account
    account.close()


def process(aws_files, **fields):
    answer = {
        "Version": 1,
        "AccessKeyId": ACCESS_KEY,
        "SecretAccessKey": SECRET_KEY,
        "SessionToken": SESSION_TOKEN,
    }
    printed = aws_files.config.with_name("printed.json")
    printed.write_text(json.dumps(answer | fields))
    command = f"cat {shlex.quote(str(printed))}"
    aws_files.config.write_text(f"[profile prod]\ncredential_process = {command}\n")


def test_keys_of_an_environment_file_with_crlf_are_good(account, stub, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", f"{ACCESS_KEY}\r")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", f"{SECRET_KEY}\r\n")
    monkeypatch.setenv("AWS_SESSION_TOKEN", f"{SESSION_TOKEN}\r")
    account.call("StartSession", Target=TARGET)
    (asked,) = stub.asked
    assert asked.headers["x-amz-security-token"] == SESSION_TOKEN
    assert f"Credential={ACCESS_KEY}/" in asked.headers["authorization"]
    found, _ = account.keys("OpenDataChannel")
    assert found.secret_key.reveal() == SECRET_KEY


def test_keys_of_a_process_with_line_ends_are_good(prod, stub, aws_files):
    process(aws_files, SessionToken=f"{SESSION_TOKEN}\r\n")
    prod.call("StartSession", Target=TARGET)
    assert stub.asked[0].headers["x-amz-security-token"] == SESSION_TOKEN


@pytest.mark.parametrize("end", ["\r", "\n", ""])
def test_the_keys_of_a_roles_source_are_mended_too(aws_files, monkeypatch, stub, end):
    role(aws_files, monkeypatch, stub)
    process_answer = {
        "Version": 1,
        "AccessKeyId": ACCESS_KEY,
        "SecretAccessKey": SECRET_KEY,
        "SessionToken": f"{SESSION_TOKEN}{end}",
    }
    printed = aws_files.config.with_name("printed.json")
    printed.write_text(json.dumps(process_answer))
    aws_files.credentials.write_text("")
    text = aws_files.config.read_text()
    aws_files.config.write_text(
        f"{text}\n[profile base]\ncredential_process = cat {printed}\n"
    )
    stub.answer("AssumeRole", assumed("AKIAROLE"))
    account = AwsClient(Identity("prod", REGION, stub.url))
    account.call("StartSession", Target=TARGET)
    account.close()
    asked = next(a for a in stub.asked if a.operation == "AssumeRole")
    assert asked.headers["x-amz-security-token"] == SESSION_TOKEN


def canaries(account):
    """Make a call that fails for its keys; return what it tells, chains included."""
    with pytest.raises(CredentialsUnusable) as caught:
        account.call("StartSession", Target=TARGET)
    told = " ".join(f"{e} {e!r} {e.args!r}" for e in chain(caught.value))
    assert leaks(told, SECRET_KEY, SESSION_TOKEN) == []
    assert caught.value.advice
    return caught.value.message


def test_an_environment_with_control_characters_is_refused_in_words(
    account, stub, monkeypatch
):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    monkeypatch.setenv("AWS_SESSION_TOKEN", f"{SESSION_TOKEN}\rx")
    message = canaries(account)
    assert message == "the session token of the environment has control characters"
    assert stub.asked == []


@pytest.mark.parametrize(
    ("field", "part"),
    [
        ("AccessKeyId", "access key id"),
        ("SecretAccessKey", "secret access key"),
        ("SessionToken", "session token"),
    ],
)
@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (5, "is not text"),
        (f"{SECRET_KEY}\x07x", "control"),
        (f"{SECRET_KEY}é", "ASCII"),
    ],
)
def test_a_process_with_odd_keys_is_refused_in_words(
    prod, stub, aws_files, field, part, value, problem
):
    process(aws_files, **{field: value})
    message = canaries(prod)
    assert message.startswith(f"the {part} of profile prod")
    assert problem in message
    assert stub.asked == []


@pytest.mark.parametrize(
    "printed", ["null", "[]", "5", '"x"', "[" * 9000, "{}", "\xff"]
)
def test_a_process_that_prints_anything_else_is_a_refusal(
    prod, stub, aws_files, printed
):
    file = aws_files.config.with_name("printed")
    file.write_text(printed)
    aws_files.config.write_text(f"[profile prod]\ncredential_process = cat {file}\n")
    assert canaries(prod)


@pytest.mark.parametrize("field", ["Expiration", "Version", "AccountId"])
@pytest.mark.parametrize("value", [[], {}, "never", True, 10**400])
def test_other_fields_of_a_process_may_be_anything(prod, aws_files, stub, field, value):
    process(aws_files, **{field: value})
    outcome = ""
    try:
        prod.call("StartSession", Target=TARGET)
    except CredentialsUnusable as error:
        outcome = str(error)
    assert leaks(outcome, SECRET_KEY, SESSION_TOKEN) == []


@pytest.mark.parametrize(
    "body",
    [
        "null",
        "[]",
        "5",
        "{}",
        json.dumps(
            {"AccessKeyId": 5, "SecretAccessKey": 5, "Token": 5, "Expiration": 5}
        ),
        "[" * 9000,
        json.dumps(
            {
                "AccessKeyId": ACCESS_KEY,
                "SecretAccessKey": f"{SECRET_KEY}\x01",
                "Token": SESSION_TOKEN,
                "Expiration": "2100-01-01T00:00:00Z",
            }
        ),
    ],
)
def test_a_container_that_answers_anything_is_a_refusal(
    account, stub, monkeypatch, body
):
    monkeypatch.setattr("time.sleep", lambda _: None)
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{stub.url}/keys")
    stub.answer("GET /keys", Reply(body=body))
    assert canaries(account)


@pytest.mark.parametrize("body", ["null", "[]", "5", "{}", "[" * 9000, '{"Code": 5}'])
def test_an_instance_that_answers_anything_is_a_refusal(
    account, stub, monkeypatch, body
):
    monkeypatch.delenv("AWS_EC2_METADATA_DISABLED")
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", stub.url)
    roles = "GET /latest/meta-data/iam/security-credentials/"
    stub.answer("PUT /latest/api/token", Reply(body="imds-token"))
    stub.answer(roles, Reply(body="role"))
    stub.answer(f"{roles}role", Reply(body=body))
    assert canaries(account)


@pytest.mark.parametrize(
    "content",
    [
        "null",
        "[]",
        '{"accessToken": 5}',
        "[" * 9000,
        '{"accessToken": 5, "expiresAt": []}',
    ],
)
def test_a_login_cache_of_any_shape_is_a_refusal(prod, aws_files, content):
    start = "https://canary-start-url.example/old"
    aws_files.config.write_text(
        "[profile prod]\nsso_account_id = 111122223333\nsso_role_name = Admin\n"
        f"sso_region = eu-west-1\nsso_start_url = {start}\n"
    )
    name = hashlib.sha1(start.encode(), usedforsecurity=False).hexdigest()
    cache = aws_files.config.parent / ".aws/sso/cache"
    cache.mkdir(parents=True)
    (cache / f"{name}.json").write_text(content)
    assert canaries(prod)
