"""Credentials: every provider's failure is said plainly, every new login is noticed."""

import json
import threading
from datetime import UTC, datetime, timedelta

import pytest
from botocore.credentials import AssumeRoleCredentialFetcher
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    NoCredentialsError,
    ProfileNotFound,
    RefreshWithMFAUnsupportedError,
    SSOError,
)

from ssmtunneld.aws.identity.credentials import (
    PROVIDER_FAILURES,
    AssumedRole,
    CredentialSource,
    Keys,
    Refreshes,
)
from ssmtunneld.aws.identity.provider_chain import role_session_name
from ssmtunneld.base.secret import Secret
from tests.aws.conftest import ACCESS_KEY, SECRET_KEY, SESSION_TOKEN
from tests.aws.stub import REGION, Reply, error

ROLE = "arn:aws:iam::111122223333:role/Bastion"
MFA = "arn:aws:iam::111122223333:mfa/alice"


def source(profile=None):
    return CredentialSource(profile, REGION)


def test_keys_come_from_the_environment(keys):
    credentials = source()
    assert credentials.method == ""
    assert credentials.known_secrets() == ()
    assert credentials.keys() == Keys(
        ACCESS_KEY, Secret(SECRET_KEY), Secret(SESSION_TOKEN)
    )
    assert credentials.method == "env"
    assert credentials.known_secrets() == (Secret(SECRET_KEY), Secret(SESSION_TOKEN))
    assert credentials.get_deferred_property("access_key")() == ACCESS_KEY


def test_keys_do_not_print(keys):
    assert "canary" not in repr(source().keys())
    assert "canary" not in repr(source())


def test_a_profile_wins_over_the_environment(aws_files, keys):
    aws_files.write_keys("AKIAFROMFILE", profile="prod")
    found = source("prod").keys()
    assert found == Keys("AKIAFROMFILE", Secret(SECRET_KEY), None)
    assert found.secrets == (Secret(SECRET_KEY),)


def test_no_credentials_at_all_is_not_an_error_of_a_provider(aws_files):
    assert source().keys() is None
    with pytest.raises(NoCredentialsError):
        source().get_frozen_credentials()


def test_a_profile_that_is_missing_is_an_error(aws_files):
    with pytest.raises(ProfileNotFound):
        source("prod").keys()
    assert source("prod").renewal().startswith("write new keys of profile prod")


def test_keys_are_read_once(aws_files):
    aws_files.write_keys("AKIAFIRST")
    credentials = source()
    assert credentials.keys().access_key == "AKIAFIRST"
    aws_files.write_keys("AKIASECOND")
    assert credentials.keys().access_key == "AKIAFIRST"


def test_refused_keys_are_read_again(aws_files):
    aws_files.write_keys("AKIAFIRST")
    credentials = source()
    credentials.keys()
    aws_files.write_keys("AKIASECOND")
    assert credentials.renew(credentials.generation)
    assert credentials.keys().access_key == "AKIASECOND"


def test_reading_the_same_keys_again_is_no_renewal(aws_files):
    aws_files.write_keys("AKIAFIRST")
    credentials = source()
    credentials.keys()
    assert not credentials.renew(credentials.generation)


def test_many_threads_refused_with_the_same_keys_renew_once(aws_files):
    aws_files.write_keys("AKIAFIRST")
    credentials = source()
    credentials.keys()
    noted = credentials.generation
    aws_files.write_keys("AKIASECOND")
    outcomes = []
    barrier = threading.Barrier(4)

    def refused():
        barrier.wait(10)
        outcomes.append(credentials.renew(noted))

    threads = [threading.Thread(target=refused) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert True in outcomes
    assert credentials.generation == noted + 1
    assert credentials.keys().access_key == "AKIASECOND"


def test_what_was_forgotten_already_is_kept(aws_files):
    aws_files.write_keys("AKIAFIRST")
    credentials = source()
    noted = credentials.generation
    credentials.forget(noted)
    credentials.keys()
    aws_files.write_keys("AKIASECOND")
    credentials.forget(noted)
    assert credentials.keys().access_key == "AKIAFIRST"


def test_a_renewal_that_fails_is_reported_by_the_next_call(aws_files):
    aws_files.write_keys("AKIAFIRST")
    credentials = source()
    credentials.keys()
    aws_files.credentials.write_text("")
    assert not credentials.renew(credentials.generation)
    assert credentials.keys() is None


@pytest.mark.parametrize(
    "process", ["/nonexistent/helper", "echo no JSON", "echo {}", "sh -c 'exit 3'"]
)
def test_a_credential_process_that_fails_is_a_credential_error(aws_files, process):
    aws_files.config.write_text(f"[profile prod]\ncredential_process = {process}\n")
    with pytest.raises(CredentialRetrievalError):
        source("prod").keys()
    assert "credential_process of profile prod" in source("prod").renewal()


def test_a_credential_process_that_works_is_used(aws_files):
    answer = json.dumps(
        {"Version": 1, "AccessKeyId": "AKIAPROCESS", "SecretAccessKey": SECRET_KEY}
    )
    script = aws_files.config.with_name("answer.json")
    script.write_text(answer)
    aws_files.config.write_text(
        f"[profile prod]\ncredential_process = cat {script}\nregion = {REGION}\n"
    )
    assert source("prod").keys().access_key == "AKIAPROCESS"


def sso_profile(aws_files, *lines):
    text = "[profile prod]\nsso_account_id = 111122223333\nsso_role_name = Admin\n"
    aws_files.config.write_text("\n".join([text, *lines, ""]))


def test_a_missing_sso_login_is_the_users_to_repeat(aws_files):
    sso_profile(
        aws_files,
        "sso_session = corp",
        "[sso-session corp]",
        "sso_region = eu-west-1",
        "sso_start_url = https://canary-start-url.example/start",
    )
    with pytest.raises(BotoCoreError):
        source("prod").keys()
    assert source("prod").renewal() == "run: aws sso login --profile prod"


def test_an_old_style_sso_profile_is_known_too(aws_files):
    sso_profile(
        aws_files,
        "sso_region = eu-west-1",
        "sso_start_url = https://canary-start-url.example/old",
    )
    with pytest.raises(SSOError):
        source("prod").keys()
    assert source("prod").renewal() == "run: aws sso login --profile prod"


def role(aws_files, monkeypatch, stub, *lines):
    aws_files.write_keys("AKIASOURCE", profile="base")
    text = f"[profile prod]\nrole_arn = {ROLE}\nsource_profile = base\n"
    aws_files.config.write_text("\n".join([text, *lines, ""]))
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", stub.url)


def assumed(access_key, minutes=60):
    until = (datetime.now(UTC) + timedelta(minutes=minutes)).isoformat()
    return Reply(
        body=f"""<AssumeRoleResponse><AssumeRoleResult><Credentials>
        <AccessKeyId>{access_key}</AccessKeyId>
        <SecretAccessKey>{SECRET_KEY}</SecretAccessKey>
        <SessionToken>{SESSION_TOKEN}</SessionToken>
        <Expiration>{until}</Expiration>
        </Credentials></AssumeRoleResult></AssumeRoleResponse>"""
    )


def test_a_role_is_assumed(aws_files, monkeypatch, stub):
    role(aws_files, monkeypatch, stub)
    stub.answer("AssumeRole", assumed("AKIAROLE"))
    credentials = source("prod")
    assert credentials.keys().access_key == "AKIAROLE"
    assert credentials.method == "assume-role"
    assert credentials.keys().access_key == "AKIAROLE"
    assert len(stub.calls("AssumeRole")) == 1
    assert stub.calls("AssumeRole")[0]["RoleArn"] == ROLE


def test_a_role_keeps_its_session_name_over_renewals(aws_files, monkeypatch, stub):
    # IAM policies let a caller resume only sessions that carry the caller's name.
    role(aws_files, monkeypatch, stub)
    monkeypatch.setenv("LOGNAME", "DOMAIN\\alice")
    stub.answer("AssumeRole", assumed("AKIAROLE"), assumed("AKIALATER"))
    credentials = source("prod")
    credentials.keys()
    assert credentials.renew(credentials.generation)
    names = [call["RoleSessionName"] for call in stub.calls("AssumeRole")]
    assert names == ["ssmtunneld-DOMAIN-alice"] * 2


def test_a_configured_session_name_is_left_alone(aws_files, monkeypatch, stub):
    role(aws_files, monkeypatch, stub, "role_session_name = alice")
    stub.answer("AssumeRole", assumed("AKIAROLE"))
    source("prod").keys()
    assert stub.calls("AssumeRole")[0]["RoleSessionName"] == "alice"


def test_a_web_identity_has_the_same_name(aws_files, monkeypatch, stub):
    token = aws_files.config.with_name("token")
    token.write_text("canary-web-identity")
    monkeypatch.setenv("LOGNAME", "alice")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(token))
    monkeypatch.setenv("AWS_ROLE_ARN", ROLE)
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", stub.url)
    denied = "<ErrorResponse><Error><Code>AccessDenied</Code></Error></ErrorResponse>"
    stub.answer("AssumeRoleWithWebIdentity", Reply(403, denied))
    credentials = source()
    with pytest.raises(ClientError):
        credentials.keys()
    (asked,) = stub.asked
    assert asked.body["RoleSessionName"] == "ssmtunneld-alice"
    assert credentials.renewal() == "check the web identity token"


def test_a_user_without_a_name_is_just_this_program(monkeypatch):
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.getuid", lambda: 2**31 - 7)
    assert role_session_name() == "ssmtunneld"


def test_a_role_that_may_not_be_assumed_is_an_error_in_the_words_of_sts(
    aws_files, monkeypatch, stub
):
    role(aws_files, monkeypatch, stub)
    denied = "<ErrorResponse><Error><Code>AccessDenied</Code></Error></ErrorResponse>"
    stub.answer("AssumeRole", Reply(403, denied))
    with pytest.raises(ClientError, match="AccessDenied"):
        source("prod").keys()


def mfa_session(access_key):
    until = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    return {
        "Credentials": {
            "AccessKeyId": access_key,
            "SecretAccessKey": SECRET_KEY,
            "SessionToken": SESSION_TOKEN,
            "Expiration": until,
        }
    }


def write_cli_cache(aws_files, content):
    # Two tools meet in this file, so its name is computed by botocore's own code.
    fetcher = AssumeRoleCredentialFetcher(
        None, None, ROLE, extra_args={"SerialNumber": MFA}
    )
    cache = aws_files.config.parent / ".aws/cli/cache"
    cache.mkdir(parents=True)
    (cache / f"{fetcher._create_cache_key()}.json").write_text(json.dumps(content))
    return cache


def test_no_terminal_is_asked_for_an_mfa_code(aws_files, monkeypatch, stub):
    role(aws_files, monkeypatch, stub, f"mfa_serial = {MFA}")
    with pytest.raises(RefreshWithMFAUnsupportedError):
        source("prod").keys()
    assert source("prod").renewal() == "run: ssmtunneld login"


def test_the_session_of_the_aws_cli_serves_where_mfa_is_needed(
    aws_files, monkeypatch, stub
):
    role(aws_files, monkeypatch, stub, f"mfa_serial = {MFA}")
    credentials = source("prod")
    with pytest.raises(RefreshWithMFAUnsupportedError):
        credentials.keys()
    write_cli_cache(aws_files, mfa_session("AKIAMFA"))
    credentials.forget(credentials.generation)
    assert credentials.keys().access_key == "AKIAMFA"
    assert stub.asked == []


def test_a_role_behind_an_mfa_role_is_not_written_to_the_clis_cache(
    aws_files, monkeypatch, stub
):
    aws_files.write_keys("AKIASOURCE", profile="base")
    aws_files.config.write_text(
        f"[profile outer]\nrole_arn = {ROLE}-outer\nsource_profile = prod\n"
        f"[profile prod]\nrole_arn = {ROLE}\nsource_profile = base\n"
        f"mfa_serial = {MFA}\n"
    )
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", stub.url)
    cache = write_cli_cache(aws_files, mfa_session("AKIAMFA"))
    stub.answer("AssumeRole", assumed("AKIAOUTER", 5), assumed("AKIALATER"))
    credentials = source("outer")
    assert credentials.keys().access_key == "AKIAOUTER"
    assert len(list(cache.iterdir())) == 1
    # Five minutes are too few: it is assumed again, over what our own cache holds.
    assert credentials.keys().access_key == "AKIALATER"


def test_an_answer_that_is_no_xml_is_a_providers_failure(aws_files, monkeypatch, stub):
    role(aws_files, monkeypatch, stub)
    stub.answer("AssumeRole", error("ThrottlingException"))
    credentials = source("prod")
    with pytest.raises(PROVIDER_FAILURES):
        credentials.keys()
    assert not credentials.renew(credentials.generation)


def test_a_broken_configuration_file_still_gives_advice(aws_files):
    aws_files.config.write_text("[profile prod\n")
    with pytest.raises(BotoCoreError):
        source("prod").keys()
    assert source("prod").renewal() == (
        "write new keys of profile prod to the AWS credentials file"
    )


def test_a_role_of_the_configuration_is_assumed_with_any_credentials(
    keys, monkeypatch, stub
):
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", stub.url)
    stub.answer("AssumeRole", assumed("AKIAROLE"))
    role = AssumedRole(ROLE, "an-id", "me@host")
    credentials = CredentialSource(None, REGION, role)
    assert credentials.keys().access_key == "AKIAROLE"
    assert credentials.keys().access_key == "AKIAROLE"
    (asked,) = stub.calls("AssumeRole")
    assert (asked["RoleArn"], asked["ExternalId"]) == (ROLE, "an-id")
    assert asked["RoleSessionName"] == "me@host"
    assert f"Credential={ACCESS_KEY}/" in stub.asked[0].headers["authorization"]


def test_a_role_of_the_configuration_has_a_name_that_does_not_change(
    keys, monkeypatch, stub
):
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", stub.url)
    stub.answer("AssumeRole", assumed("AKIAROLE", 5), assumed("AKIALATER"))
    credentials = CredentialSource(None, REGION, AssumedRole(ROLE))
    credentials.keys()
    assert credentials.keys().access_key == "AKIALATER"
    names = [call["RoleSessionName"] for call in stub.calls("AssumeRole")]
    assert set(names) == {role_session_name()}
    assert "ExternalId" not in stub.calls("AssumeRole")[0]


def test_nobody_knows_the_end_of_keys_that_were_not_read(aws_files):
    assert source().ends_at() is None


def test_static_keys_have_no_end(aws_files):
    aws_files.write_keys("AKIAFIRST")
    credentials = source()
    credentials.keys()
    assert credentials.ends_at() is None


def test_keys_in_the_environment_may_have_an_end(keys, monkeypatch):
    ends = datetime.now(UTC) + timedelta(hours=1)
    monkeypatch.setenv("AWS_CREDENTIAL_EXPIRATION", ends.isoformat())
    credentials = source()
    credentials.keys()
    assert credentials.ends_at() == pytest.approx(ends.timestamp(), abs=1)


def test_a_role_of_the_configuration_may_need_a_code(aws_files):
    role = AssumedRole(ROLE, mfa_serial=MFA)
    credentials = CredentialSource(None, REGION, role, login="ssmtunneld login db")
    with pytest.raises(RefreshWithMFAUnsupportedError):
        credentials.keys()
    assert credentials.renewal() == "run: ssmtunneld login db"
    assert credentials.refreshes == Refreshes(renewed=0, failed=1)
    write_cli_cache(aws_files, mfa_session("AKIAMFA"))
    # Begun with the profile's keys, of which there are none; nobody needs them now.
    assert credentials.keys().access_key == "AKIAMFA"
    assert credentials.refreshes == Refreshes(renewed=1, failed=1)
    hour = (datetime.now(UTC) + timedelta(hours=1)).timestamp()
    assert credentials.ends_at() == pytest.approx(hour, abs=60)
    assert credentials.expires_at == credentials.ends_at()


def test_a_human_must_act_when_the_session_of_a_profile_ends(aws_files):
    aws_files.write_keys("AKIASOURCE", profile="base")
    aws_files.config.write_text(
        f"[profile prod]\nrole_arn = {ROLE}\nsource_profile = base\n"
        f"mfa_serial = {MFA}\n"
    )
    write_cli_cache(aws_files, mfa_session("AKIAMFA"))
    credentials = source("prod")
    assert (credentials.ends_at(), credentials.expires_at) == (None, None)
    credentials.keys()
    hour = (datetime.now(UTC) + timedelta(hours=1)).timestamp()
    assert credentials.ends_at() == pytest.approx(hour, abs=60)


def test_refreshes_are_counted(aws_files):
    aws_files.write_keys("AKIAFIRST")
    credentials = source()
    credentials.keys()
    credentials.keys()
    assert credentials.refreshes == Refreshes(renewed=1)
    aws_files.write_keys("AKIASECOND")
    assert credentials.renew(credentials.generation)
    assert credentials.refreshes == Refreshes(renewed=2)


def test_a_configuration_that_broke_meanwhile_tells_no_end(aws_files):
    aws_files.write_keys("AKIAFIRST")
    credentials = source()
    credentials.keys()
    aws_files.config.write_text("[profile prod\n")
    assert credentials.ends_at() is None
