"""``ssmtunneld targets``: what it prints of scripted answers, and of an emulator."""

import json

import pytest

from ssmtunneld.emulator.settings import EmulatorSettings, Pace
from ssmtunneld.testing import EmulatorThread
from tests.aws.stub import Stub, error
from tests.cli.household import call
from tests.integration.world import use_loopback_aws

WEB, OLD = "i-0aaaaaaaaaaaaaaaa", "mi-0bbbbbbbbbbbbbbbb0"


@pytest.fixture
def stub(home, monkeypatch, tmp_path):
    use_loopback_aws(monkeypatch, tmp_path)
    stub = Stub()
    monkeypatch.setenv("AWS_ENDPOINT_URL_SSM", stub.url)
    stub.answer(
        "DescribeInstanceInformation",
        {
            "InstanceInformationList": [
                node(WEB, AgentVersion="3.3.808.0", ComputerName="web"),
                node(OLD, AgentVersion="2.3.714.0", Name="rack", PingStatus="Inactive"),
            ]
        },
    )
    yield stub
    stub.close()


def node(key, **more):
    seen = 1_700_000_000
    return {"InstanceId": key, "PingStatus": "Online", "LastPingDateTime": seen, **more}


def test_those_online_are_listed_with_what_they_can_do(stub, capsys):
    code, out, err = call(capsys, "targets")
    assert (code, err) == (0, "")
    head, titles, row = (line.split() for line in out.splitlines())
    assert " ".join(head) == "1 online target in eu-west-1"
    assert titles[:4] == ["ID", "NAME", "AGENT", "CAN"]
    assert row[:5] == [WEB, "web", "3.3.808.0", "mux", "hosts"]


def test_all_of_them_come_with_the_likely_reason(stub, capsys):
    out = call(capsys, "targets", "--all")[1]
    assert "Inactive" in out
    assert "or its agent no longer reports: check that it runs" in out


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("WEB",), {WEB}),
        (("rack", "--all"), {OLD}),
        (("web", "rack", "--all"), set()),
        (("--all",), {WEB, OLD}),
    ],
)
def test_filters_choose_some_and_json_has_the_facts(stub, words, expected, capsys):
    code, out, _ = call(capsys, "targets", "--json", *words)
    listed = json.loads(out)["targets"]
    assert (code, {each["id"] for each in listed}) == (0, expected)
    facts = {each["id"]: (each["mux"], each["remote_hosts"]) for each in listed}
    wanted = {WEB: (True, True), OLD: (False, False)}
    assert facts == {key: wanted[key] for key in expected}


def test_two_regions_are_asked_and_told_apart(stub, capsys):
    out = call(capsys, "targets", "--region", "eu-west-1", "--region", "us-east-1")[1]
    assert out.startswith("2 online targets in eu-west-1, us-east-1\n")
    assert [line.split()[2] for line in out.splitlines()[2:]] == [
        "eu-west-1",
        "us-east-1",
    ]


def test_an_account_without_any_is_no_failure(stub, capsys):
    stub.answer("DescribeInstanceInformation", {"InstanceInformationList": []})
    code, out, err = call(capsys, "targets")
    assert (code, out) == (0, "0 online targets in eu-west-1\n")
    assert err == "see why: ssmtunneld targets --all\n"
    _, out, err = call(capsys, "targets", "web 1")
    assert out == "0 online targets in eu-west-1 that match\n"
    assert err == "see why: ssmtunneld targets 'web 1' --all\n"


def test_a_denial_ends_with_4(stub, capsys):
    stub.answer("DescribeInstanceInformation", error("AccessDeniedException"))
    code, out, err = call(capsys, "targets")
    assert (code, out) == (4, "")
    assert "DescribeInstanceInformation failed: AccessDeniedException" in err
    words = ("targets", "--region", "eu-west-1", "--region", "us-east-1")
    code, out, err = call(capsys, *words)
    assert (code, out, len(err.splitlines())) == (4, "", 2)


def test_an_emulators_targets_are_listed(home, monkeypatch, tmp_path, capfd):
    use_loopback_aws(monkeypatch, tmp_path)
    settings = EmulatorSettings(pace=Pace.NONE, targets=frozenset({WEB}))
    with EmulatorThread(settings) as emulator:
        for name, value in emulator.environment.items():
            monkeypatch.setenv(name, value)
        out = call(capfd, "targets", "--json")[1]
    assert f'"id": "{WEB}"' in out
