"""Codes: asked for once per role, used in the right call, and what comes of it kept."""

import json
import stat
from dataclasses import replace

import pytest
from botocore.exceptions import RefreshWithMFAUnsupportedError

from ssmtunneld.aws.api.port import Identity
from ssmtunneld.aws.identity.credentials import AssumedRole, CredentialSource
from ssmtunneld.aws.identity.mfa import (
    begin_session,
    has_credentials,
    login_needs,
    login_region,
)
from ssmtunneld.aws.identity.mfa_cache import MfaRole, cache_folder
from ssmtunneld.aws.identity.profiles import LoginNeeds
from ssmtunneld.aws.identity.provider_chain import role_session_name
from ssmtunneld.errors import CredentialsUnusable
from tests.aws.conftest import ACCESS_KEY
from tests.aws.identity.test_credentials import MFA, ROLE, assumed
from tests.aws.stub import REGION, Reply

PROFILE = Identity(profile="prod")
OURS = Identity(profile="base", role_arn=ROLE, mfa_serial=MFA, external_id="an-id")
CODE = "123456"


class Asker:
    """Shows a code, and knows what it was asked for."""

    def __init__(self, *codes):
        self._codes = list(codes or [CODE])
        self.devices = []

    def __call__(self, device):
        self.devices.append(device)
        return self._codes.pop(0)


@pytest.fixture
def sts(aws_files, monkeypatch, stub):
    """STS, and two profiles: one with keys, one with a role that needs a code."""
    aws_files.write_keys(ACCESS_KEY, profile="base")
    aws_files.config.write_text(
        f"[profile prod]\nrole_arn = {ROLE}\nsource_profile = base\n"
        f"mfa_serial = {MFA}\nregion = {REGION}\n[profile base]\n"
    )
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", stub.url)
    stub.answer("AssumeRole", assumed("AKIAROLE"), assumed("AKIALATER"))
    return stub


def stored(role):
    file = cache_folder() / f"{role.key}.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    return json.loads(file.read_text())["Credentials"]["AccessKeyId"]


def test_a_code_begins_a_session_that_the_aws_cli_finds(sts):
    ask = Asker()
    ends_at = begin_session(PROFILE, ask, REGION)
    assert ask.devices == [MFA]
    (asked,) = sts.calls("AssumeRole")
    assert (asked["RoleArn"], asked["SerialNumber"]) == (ROLE, MFA)
    assert asked["TokenCode"] == CODE
    assert ACCESS_KEY in sts.asked[0].headers["authorization"]
    role = MfaRole(ROLE, MFA)
    assert stored(role) == "AKIAROLE"
    assert ends_at == pytest.approx(role.ends_at(), abs=1)
    assert [p.name for p in cache_folder().iterdir()] == [f"{role.key}.json"]


def test_a_daemon_finds_it_too(sts):
    credentials = CredentialSource("prod", REGION)
    with pytest.raises(RefreshWithMFAUnsupportedError):
        credentials.keys()
    begin_session(PROFILE, Asker(), REGION)
    credentials.forget(credentials.generation)
    assert credentials.keys().access_key == "AKIAROLE"


def test_the_sessions_of_a_role_keep_their_name(sts):
    # IAM policies let a caller resume only sessions that carry the caller's name.
    begin_session(PROFILE, Asker(), REGION)
    begin_session(PROFILE, Asker(), REGION)
    names = [call["RoleSessionName"] for call in sts.calls("AssumeRole")]
    assert names == [role_session_name()] * 2


def test_a_login_begins_another_session_even_if_there_is_one(sts):
    begin_session(PROFILE, Asker(), REGION)
    begin_session(PROFILE, Asker(), REGION)
    assert stored(MfaRole(ROLE, MFA)) == "AKIALATER"


def test_a_role_of_the_configuration_is_assumed_with_a_code(sts):
    begin_session(replace(OURS, role_session_name="alice"), Asker(), REGION)
    (asked,) = sts.calls("AssumeRole")
    assert (asked["ExternalId"], asked["RoleSessionName"]) == ("an-id", "alice")
    assert (asked["SerialNumber"], asked["TokenCode"]) == (MFA, CODE)
    assert stored(MfaRole(ROLE, MFA, "an-id", "alice")) == "AKIAROLE"
    ours = AssumedRole(ROLE, "an-id", "alice", MFA)
    found = CredentialSource("base", REGION, ours).keys()
    assert found.access_key == "AKIAROLE"


def test_each_role_asks_for_a_code_of_its_own(sts):
    ask = Asker("111111", "222222")
    identity = replace(OURS, profile="prod", role_arn=f"{ROLE}-2")
    begin_session(identity, ask, REGION)
    assert ask.devices == [MFA, MFA]
    codes = [call["TokenCode"] for call in sts.calls("AssumeRole")]
    assert codes == ["111111", "222222"]
    assert stored(MfaRole(f"{ROLE}-2", MFA, "an-id")) == "AKIALATER"


def test_a_role_in_front_of_it_is_assumed_but_not_kept(sts, aws_files):
    text = aws_files.config.read_text()
    aws_files.config.write_text(
        f"{text}[profile outer]\nrole_arn = {ROLE}-outer\nsource_profile = prod\n"
    )
    begin_session(Identity(profile="outer"), Asker(), REGION)
    assert len(sts.calls("AssumeRole")) == 2
    assert len(list(cache_folder().iterdir())) == 1
    assert stored(MfaRole(ROLE, MFA)) == "AKIAROLE"


def refused(code, message):
    text = f"<ErrorResponse><Error><Code>{code}</Code><Message>{message}</Message>"
    return Reply(403, f"{text}</Error></ErrorResponse>")


def test_a_wrong_code_is_said_to_be_one(sts, caplog):
    text = "MultiFactorAuthentication failed with invalid MFA one time pass code."
    sts.answer("AssumeRole", refused("AccessDenied", text))
    with pytest.raises(CredentialsUnusable) as caught:
        begin_session(PROFILE, Asker(), REGION)
    assert caught.value.advice.startswith("enter the code that the device shows now")
    assert CODE not in str(caught.value) + caught.value.advice + caplog.text
    assert not cache_folder().exists()


def test_another_refusal_quotes_sts(sts):
    text = f"User: alice is not authorized to perform: sts:AssumeRole on: {ROLE}"
    sts.answer("AssumeRole", refused("AccessDenied", text))
    with pytest.raises(CredentialsUnusable, match="not authorized") as caught:
        begin_session(PROFILE, Asker(), REGION)
    assert "docs/iam.md#assuming-a-role" in caught.value.advice


def test_a_profile_without_keys_has_nothing_to_assume_a_role_with(sts, aws_files):
    aws_files.credentials.write_text("")
    ask = Asker()
    with pytest.raises(CredentialsUnusable, match="NoCredentials"):
        begin_session(OURS, ask, REGION)
    assert ask.devices == []
    with pytest.raises(CredentialsUnusable, match="must have credentials"):
        begin_session(PROFILE, ask, REGION)
    assert sts.asked == []


SSO = """
sso_session = work
sso_account_id = 111122223333
sso_role_name = Admin
[sso-session work]
sso_region = eu-west-1
sso_start_url = https://work.example/start
"""


@pytest.mark.parametrize(
    ("text", "identity", "needs"),
    [
        ("[profile prod]", PROFILE, LoginNeeds((), "", code=False)),
        (
            f"[profile prod]\nrole_arn = {ROLE}\nmfa_serial = {MFA}",
            PROFILE,
            LoginNeeds((), "", code=True),
        ),
        ("[profile base]", OURS, LoginNeeds((), "", code=True)),
        (
            f"[profile base]{SSO}",
            OURS,
            LoginNeeds(("aws", "sso", "login", "--profile", "base"), "base", code=True),
        ),
        (
            "[default]\nlogin_session = arn:x",
            Identity(),
            LoginNeeds(("aws", "login"), "default", code=False),
        ),
    ],
)
def test_a_login_takes_what_the_profile_says(aws_files, text, identity, needs):
    aws_files.config.write_text(text)
    assert login_needs(identity) == needs


def test_a_profile_that_does_not_exist_is_a_refusal(aws_files):
    for question in (login_needs, login_region):
        with pytest.raises(CredentialsUnusable, match="prod"):
            question(PROFILE)
    with pytest.raises(CredentialsUnusable, match="prod"):
        begin_session(PROFILE, Asker(), REGION)


def test_sts_is_asked_in_the_identitys_region(sts, monkeypatch):
    assert login_region(replace(PROFILE, region="eu-north-1")) == "eu-north-1"
    assert login_region(PROFILE) == REGION
    assert login_region(Identity(profile="base")) == "us-east-1"


def test_whether_a_profile_has_credentials_is_found_out_without_asking(sts):
    assert has_credentials(PROFILE, "base", REGION)
    assert not has_credentials(PROFILE, "prod", REGION)
    assert not has_credentials(Identity(), "default", REGION)


def test_keys_in_the_environment_come_before_a_role(sts, aws_files, monkeypatch):
    text = aws_files.config.read_text()
    aws_files.config.write_text(text.replace("[profile prod]", "[default]"))
    begin_session(Identity(), Asker(), REGION)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAENVIRONMENT")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    ask = Asker()
    with pytest.raises(CredentialsUnusable, match="keys in the environment"):
        begin_session(Identity(), ask, REGION)
    assert ask.devices == []


def test_a_source_that_prints_something_else_is_a_refusal(sts, aws_files):
    text = aws_files.config.read_text()
    aws_files.config.write_text(f"{text}credential_process = echo []\n")
    aws_files.credentials.write_text("")
    with pytest.raises(CredentialsUnusable, match="AttributeError"):
        begin_session(PROFILE, Asker(), REGION)
