"""botocore's providers: each of them works, none hangs, and no terminal is asked."""

import asyncio
import itertools
import json
import os
import threading
from datetime import UTC, datetime, timedelta

import boto3
import botocore.session
import pytest
from botocore.config import Config
from botocore.exceptions import (
    CredentialRetrievalError,
    NoCredentialsError,
    RefreshWithMFAUnsupportedError,
)
from botocore.handlers import BUILTIN_HANDLERS
from botocore.loaders import Loader
from botocore.utils import hyphenize_service_id

from ssmtunneld.aws import botocore_internals
from ssmtunneld.aws.api.models import SERVICES
from ssmtunneld.aws.api.port import Identity
from ssmtunneld.aws.identity.credentials import AssumedRole, CredentialSource
from ssmtunneld.aws.identity.provider_chain import (
    new_session,
    profiles_of,
    provider_session,
    role_session_name,
)
from ssmtunneld.aws.ssm import SsmControl
from tests.aws.conftest import SECRET_KEY, SESSION_TOKEN
from tests.aws.identity.test_credentials import ROLE, assumed, role
from tests.aws.stub import REGION, Reply

OUTER = "arn:aws:iam::444455556666:role/Outer"


def source(profile=None, assumed_role=None, **how):
    return CredentialSource(profile, REGION, assumed_role, **how)


def expiring(minutes):
    return (datetime.now(UTC) + timedelta(minutes=minutes)).isoformat()


def caller(cloud, keys):
    """Return whose keys STS takes these for."""
    sts = boto3.client(
        "sts",
        region_name=REGION,
        endpoint_url=cloud.url,
        aws_access_key_id=keys.access_key,
        aws_secret_access_key=keys.secret_key.reveal(),
        aws_session_token=keys.session_token.reveal(),
        config=Config(proxies={}),
    )
    try:
        return sts.get_caller_identity()["Arn"]
    finally:
        sts.close()


CALLED = (
    *("ssm", "sts", "ec2", "ec2-instance-connect", "autoscaling", "ecs", "rds"),
    *("elasticache", "memorydb", "redshift", "redshift-serverless", "opensearch"),
    *("kafka", "eks", "elbv2", "sso", "sso-oidc", "signin"),
)


def handlers_of(session, event):
    # botocore does not tell them.
    emitter = session.get_component("event_emitter")._emitter
    return list(emitter._handlers.prefix_search(event))


def test_calls_of_our_services_are_handled_as_botocore_handles_them(aws_files):
    ours, whole = new_session(None), botocore.session.Session()
    models = [Loader().load_service_model(s, "service-2")["metadata"] for s in CALLED]
    assert {model["endpointPrefix"] for model in models} == SERVICES
    services = [hyphenize_service_id(model["serviceId"]) for model in models]
    kinds = {spec[0].partition(".")[0] for spec in BUILTIN_HANDLERS} - {"docs"}
    ends = {spec[0].partition(".")[2].partition(".")[2] for spec in BUILTIN_HANDLERS}
    count = 0
    for kind, service, end in itertools.product(kinds, services, ends):
        event = f"{kind}.{service}.{end}"
        found = handlers_of(ours, event)
        assert found == handlers_of(whole, event), event
        count += len(found)
    assert count
    assert handlers_of(whole, "before-call.s3") != handlers_of(ours, "before-call.s3")


def test_sessions_share_their_models(aws_files):
    loaders = {id(new_session(None).get_component("data_loader")) for _ in range(2)}
    assert len(loaders) == 1


def test_profiles_come_with_the_name_of_the_one_in_use(aws_files, monkeypatch):
    aws_files.config.write_text("[profile prod]\nregion = eu-west-1\n")
    assert profiles_of(new_session(None)) == (
        {"prod": {"region": "eu-west-1"}},
        "default",
    )
    monkeypatch.setenv("AWS_PROFILE", "prod")
    assert profiles_of(new_session(None))[1] == "prod"


def test_a_chain_of_roles_ends_with_the_outermost(aws_files, cloud):
    aws_files.write_keys("AKIABASE", profile="base")
    aws_files.config.write_text(
        f"[profile outer]\nrole_arn = {OUTER}\nsource_profile = inner\n"
        f"external_id = an-id\nrole_session_name = alice\n"
        f"[profile inner]\nrole_arn = {ROLE}\nsource_profile = base\n"
    )
    whole = caller(cloud, source("outer").keys())
    assert whole == "arn:aws:sts::444455556666:assumed-role/Outer/alice"
    ours = AssumedRole(f"{OUTER}-3", "an-id", None)
    assert caller(cloud, source("outer", ours).keys()) == (
        f"arn:aws:sts::444455556666:assumed-role/Outer-3/{role_session_name()}"
    )


def test_each_role_of_a_chain_has_its_own_terms(aws_files, monkeypatch, stub):
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", stub.url)
    aws_files.write_keys("AKIABASE", profile="base")
    aws_files.config.write_text(
        f"[profile outer]\nrole_arn = {OUTER}\nsource_profile = inner\n"
        "external_id = an-id\nduration_seconds = 900\n"
        f"[profile inner]\nrole_arn = {ROLE}\nsource_profile = base\n"
        "role_session_name = alice\n"
    )
    stub.answer("AssumeRole", assumed("AKIAINNER"), assumed("AKIAOUTER"))
    assert source("outer").keys().access_key == "AKIAOUTER"
    inner, outer = stub.calls("AssumeRole")
    assert (inner["RoleArn"], inner["RoleSessionName"]) == (ROLE, "alice")
    assert "ExternalId" not in inner
    assert (outer["RoleArn"], outer["ExternalId"]) == (OUTER, "an-id")
    assert (outer["RoleSessionName"], outer["DurationSeconds"]) == (
        role_session_name(),
        "900",
    )
    signers = [asked.headers["authorization"] for asked in stub.asked]
    assert ["AKIABASE" in signers[0], "AKIAINNER" in signers[1]] == [True, True]


def test_a_web_identity_is_read_again_at_each_renewal(aws_files, monkeypatch, stub):
    token = aws_files.config.with_name("token")
    token.write_text("first-token")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(token))
    monkeypatch.setenv("AWS_ROLE_ARN", ROLE)
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", stub.url)
    answers = [
        Reply(body=assumed(f"AKIA{n}", m).body.replace("AssumeRole", NAME))
        for n, m in (("FIRST", 5), ("LATER", 60))
    ]
    stub.answer(NAME, *answers)
    credentials = source()
    assert credentials.keys().access_key == "AKIAFIRST"
    token.write_text("second-token")
    assert credentials.keys().access_key == "AKIALATER"
    tokens = [call["WebIdentityToken"] for call in stub.calls(NAME)]
    assert tokens == ["first-token", "second-token"]
    assert credentials.method == "assume-role-with-web-identity"


NAME = "AssumeRoleWithWebIdentity"


def test_a_web_identity_without_its_file_is_a_credential_error(aws_files, monkeypatch):
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", "/nonexistent/token")
    monkeypatch.setenv("AWS_ROLE_ARN", ROLE)
    with pytest.raises(CredentialRetrievalError):
        source().keys()


INSTANCE = "GET /latest/meta-data/iam/security-credentials/"


@pytest.fixture
def instance(aws_files, monkeypatch, stub):
    """An instance whose metadata service is the stub."""
    monkeypatch.delenv("AWS_EC2_METADATA_DISABLED")
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", stub.url)
    stub.answer("PUT /latest/api/token", Reply(body="canary-metadata-token"))
    stub.answer(INSTANCE, Reply(body="Bastion"))
    return stub


def test_an_instance_has_a_role(instance):
    instance.answer(
        f"{INSTANCE}Bastion",
        {
            "Code": "Success",
            "AccessKeyId": "AKIAINSTANCE",
            "SecretAccessKey": SECRET_KEY,
            "Token": SESSION_TOKEN,
            "Expiration": expiring(60),
        },
    )
    credentials = source()
    assert credentials.keys().access_key == "AKIAINSTANCE"
    assert credentials.renewal() == "check the role of this instance"
    assert credentials.ends_at() is None


def test_no_proxy_is_asked_for_an_instances_role(instance, monkeypatch):
    monkeypatch.delenv("NO_PROXY")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    test_an_instance_has_a_role(instance)


def test_an_instance_without_a_role_has_no_credentials(instance):
    instance.answer(INSTANCE, Reply(404, "not found"))
    with pytest.raises(NoCredentialsError):
        source().get_frozen_credentials()


@pytest.fixture
def container(aws_files, monkeypatch, stub):
    """A task or pod whose credentials come from the stub."""
    token = aws_files.config.with_name("pod-token")
    token.write_text("first-token")
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{stub.url}/v1/keys")
    monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", str(token))
    return stub


def container_keys(access_key, minutes):
    return {
        "AccessKeyId": access_key,
        "SecretAccessKey": SECRET_KEY,
        "Token": SESSION_TOKEN,
        "Expiration": expiring(minutes),
    }


def test_a_container_has_a_role_whose_token_may_change(container, aws_files):
    soon = container_keys("AKIAFIRST", 5)  # so soon that botocore asks again at once
    container.answer("GET /v1/keys", soon, soon, container_keys("AKIALATER", 60))
    credentials = source()
    assert credentials.keys().access_key == "AKIAFIRST"
    aws_files.config.with_name("pod-token").write_text("second-token")
    assert credentials.keys().access_key == "AKIALATER"
    tokens = [asked.headers["authorization"] for asked in container.asked]
    assert tokens == ["first-token", "first-token", "second-token"]
    assert credentials.renewal() == "check the role of this container or pod"


def test_a_container_without_a_role_is_a_credential_error(container):
    container.answer("GET /v1/keys", Reply(403, "no"))
    with pytest.raises(CredentialRetrievalError):
        source().keys()


def process(aws_files, command):
    aws_files.config.write_text(f"[profile prod]\ncredential_process = {command}\n")


HALF = '{"Version": 1, "AccessKeyId": "AKIAHALF", "SecretAccess'


@pytest.mark.parametrize("text", ["", HALF, "[]", "null", '{"Version": 7}'])
def test_a_process_that_prints_something_else_is_a_credential_error(aws_files, text):
    said = aws_files.config.with_name("said")
    said.write_text(text)
    process(aws_files, f"cat {said}")
    with pytest.raises(CredentialRetrievalError) as caught:
        source("prod").keys()
    assert "AKIAHALF" not in str(caught.value)


def test_a_process_that_prints_keys_that_are_over_is_a_credential_error(aws_files):
    said = aws_files.config.with_name("said")
    keys = {"Version": 1, "AccessKeyId": "AKIA", "SecretAccessKey": SECRET_KEY}
    said.write_text(json.dumps({**keys, "Expiration": expiring(-5)}))
    process(aws_files, f"cat {said}")
    with pytest.raises(CredentialRetrievalError, match="still expired"):
        source("prod").keys()


@pytest.mark.parametrize("command", ["cat", "sh -c 'sleep 5 & wait'"])
def test_a_process_that_hangs_is_ended(aws_files, tmp_path, command):
    # The second one leaves a child behind, which holds its output open.
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    process(aws_files, f"{command} {gate}" if command == "cat" else command)
    credentials = source("prod", process_timeout=0.2)
    with pytest.raises(CredentialRetrievalError, match=r"longer than 0\.2 s"):
        credentials.keys()
    assert credentials.refreshes.failed == 1


@pytest.mark.parametrize("stream", ["1", "2"])
def test_a_process_that_prints_without_end_is_ended(aws_files, stream):
    process(aws_files, f"sh -c 'yes canary >&{stream}'")
    with pytest.raises(CredentialRetrievalError, match="more than 65536 bytes"):
        source("prod").keys()


def test_a_process_behind_a_role_is_ended_too(aws_files, monkeypatch, stub, tmp_path):
    os.mkfifo(tmp_path / "gate")
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", stub.url)
    aws_files.config.write_text(
        f"[profile prod]\nrole_arn = {ROLE}\nsource_profile = base\n"
        f"[profile base]\ncredential_process = cat {tmp_path / 'gate'}\n"
    )
    with pytest.raises(CredentialRetrievalError, match="longer than"):
        source("prod", process_timeout=0.2).keys()
    assert stub.asked == []


def test_a_process_is_not_asked_anything(aws_files):
    process(aws_files, "cat")  # its standard input is empty: it ends
    with pytest.raises(CredentialRetrievalError):
        source("prod").keys()


def test_many_threads_assume_a_role_once(aws_files, monkeypatch, stub):
    role(aws_files, monkeypatch, stub)
    stub.answer("AssumeRole", assumed("AKIAROLE"))
    credentials = source("prod")
    barrier, found = threading.Barrier(6), []

    def use():
        barrier.wait(30)
        found.append(credentials.keys().access_key)

    threads = [threading.Thread(target=use) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == ["AKIAROLE"] * 6
    assert len(stub.calls("AssumeRole")) == 1
    assert credentials.refreshes.renewed >= 1


async def test_the_loop_runs_while_a_role_is_being_assumed(
    aws_files, monkeypatch, stub, arrival
):
    role(aws_files, monkeypatch, stub)
    stub.answer("AssumeRole", assumed("AKIAROLE"))
    stub.held.add("AssumeRole")
    identity = Identity(profile="prod", region=REGION, endpoint_url=stub.url)
    control = SsmControl(identity)
    try:
        async with asyncio.TaskGroup() as tasks:
            call = tasks.create_task(control.resume("s-1"))
            await arrival()
            assert not call.done()
            stub.release.set()
        assert call.result().session_id
        assert control.refreshes == (1, 0)
    finally:
        await control.close()


def test_a_daemon_never_asks_on_a_terminal(aws_files):
    session = provider_session(None, REGION)
    provider = session.get_component("credential_provider").get_provider(
        botocore_internals.ROLE
    )
    with pytest.raises(RefreshWithMFAUnsupportedError):
        provider._prompter("MFA code: ")
