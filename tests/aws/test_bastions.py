"""EC2's calls for instances that are started on demand: moto's, and the emulator's."""

import pytest

from ssmtunneld.aws.api.port import Identity
from ssmtunneld.aws.bastions import (
    erase_tag,
    erase_tags_as_seen,
    find_instance,
    has_agent,
    may_start,
    may_stop,
    start_instance,
    stop_instance,
    write_tag,
)
from ssmtunneld.aws.client import AwsClient
from ssmtunneld.config.targets import bastion_target
from ssmtunneld.emulator.settings import EmulatorSettings, Node, Pace
from ssmtunneld.errors import AccessDenied, RequestRejected, TargetNotFound
from ssmtunneld.testing import ACCESS_KEY, EmulatorThread
from tests.support.moto import REGION

KEY = "ssmtunneld:0123456789ab"
SLEEPER = "i-0123456789abcdef0"


@pytest.fixture
def account(cloud, keys):
    account = AwsClient(Identity(region=REGION))
    yield account
    account.close()


def find(account, text):
    return find_instance(account, bastion_target(text))


@pytest.mark.parametrize("spell", ["name:bastion", "tag:Role=jump", "{id}", "ip:{ip}"])
def test_a_stopped_instance_is_found_by_any_of_its_names(account, cloud, spell):
    made = cloud.launch(Name="bastion", Role="jump")
    address = cloud.describe(made)["PrivateIpAddress"]
    stop_instance(account, made)
    found = find(account, spell.format(id=made, ip=address))
    assert (found.id, found.state) == (made, "stopped")
    assert found.launched == cloud.describe(made)["LaunchTime"].timestamp() // 1
    assert found.marks == {}


def test_a_tag_of_ours_comes_and_goes_and_others_stay(account, cloud):
    made = cloud.launch(Name="bastion")
    write_tag(account, made, KEY, "by=me@here")
    write_tag(account, made, KEY, "by=you@there")
    assert find(account, made).marks == {KEY: "by=you@there"}
    erase_tag(account, made, KEY)
    erase_tag(account, made, KEY)
    assert find(account, made).marks == {}
    assert cloud.describe(made)["Tags"] == [{"Key": "Name", "Value": "bastion"}]


def test_only_tags_that_are_as_they_were_seen_are_swept_away(account, cloud):
    made = cloud.launch(Name="bastion")
    keys = [f"{KEY[:-1]}{digit}" for digit in range(3)]
    for key in keys:
        write_tag(account, made, key, "by=me@here")
    seen = dict(find(account, made).marks)
    write_tag(account, made, keys[1], "by=me@here until=2026-11-30T07:00:00Z")
    erase_tags_as_seen(account, made, seen)
    assert set(find(account, made).marks) == {keys[1]}


def test_only_the_first_start_is_ours(account, cloud):
    made = cloud.launch(Name="bastion")
    stop_instance(account, made)
    assert start_instance(account, made)
    assert not start_instance(account, made)
    assert find(account, made).state == "running"


def test_none_and_two_are_refused(account, cloud):
    with pytest.raises(TargetNotFound, match="no instance tag:Name=bastion in eu"):
        find(account, "name:bastion")
    cloud.launch(Name="bastion")
    cloud.launch(Name="bastion")
    with pytest.raises(TargetNotFound, match="are 2 instances") as caught:
        find(account, "name:bastion")
    assert caught.value.advice.startswith("name one of them")


def test_one_that_is_terminated_is_none(account, cloud):
    made = cloud.launch(Name="bastion")
    cloud.terminate(made)
    with pytest.raises(TargetNotFound):
        find(account, "name:bastion")


@pytest.fixture
def sleeper(keys, monkeypatch):
    settings = EmulatorSettings(
        pace=Pace.NONE,
        nodes={SLEEPER: Node(name="bastion")},
        stopped=frozenset({SLEEPER}),
        boot_time=60.0,
    )
    with EmulatorThread(settings) as emulator:
        for name, value in emulator.environment.items():
            monkeypatch.setenv(name, value)
        account = AwsClient(Identity(region=REGION))
        yield emulator, account
        account.close()


def test_the_emulator_s_instance_does_as_moto_s(sleeper):
    emulator, account = sleeper
    before = find(account, "name:bastion")
    assert before.state == "stopped"
    assert not has_agent(account, SLEEPER)
    write_tag(account, SLEEPER, KEY, "by=me@here")
    assert start_instance(account, SLEEPER)
    assert not start_instance(account, SLEEPER)
    found = find(account, "name:bastion")
    assert found.state == "pending"
    assert found.launched > before.launched
    assert found.marks == {KEY: "by=me@here"}
    emulator.advance(60.0)
    assert has_agent(account, SLEEPER)
    assert emulator.instance(SLEEPER)["starts"] == 1
    emulator.stop_instance(SLEEPER)
    assert find(account, SLEEPER).state == "stopping"
    erase_tags_as_seen(account, SLEEPER, {KEY: "by=you@there"})
    assert find(account, SLEEPER).marks == {KEY: "by=me@here"}
    erase_tags_as_seen(account, SLEEPER, {KEY: "by=me@here"})
    assert find(account, SLEEPER).marks == {}
    write_tag(account, SLEEPER, KEY, "by=me@here")
    erase_tag(account, SLEEPER, KEY)
    assert find(account, SLEEPER).marks == {}


def test_permission_is_asked_for_without_a_start(sleeper):
    emulator, account = sleeper
    may_start(account, SLEEPER)
    assert emulator.instance(SLEEPER)["state"] == "stopped"
    emulator.deny("ec2:StartInstances")
    with pytest.raises(AccessDenied) as caught:
        may_start(account, SLEEPER)
    assert "ec2:StartInstances on arn:aws:ec2:eu-west-1" in caught.value.advice
    assert "iam.md#bastions-that-sleep" in caught.value.advice
    assert ACCESS_KEY not in str(caught.value)


def test_permission_is_asked_for_without_a_stop(sleeper):
    emulator, account = sleeper
    emulator.start_instance(SLEEPER)
    may_stop(account, SLEEPER)
    assert emulator.instance(SLEEPER)["stops"] == 0
    emulator.deny("ec2:StopInstances")
    with pytest.raises(AccessDenied) as caught:
        may_stop(account, SLEEPER)
    assert "ec2:StopInstances on arn:aws:ec2:eu-west-1" in caught.value.advice


def test_a_server_that_starts_it_all_the_same_is_found_out(account, cloud, monkeypatch):
    made = cloud.launch(Name="bastion")
    call = account.call_service

    def without_dry_run(service, operation, **parameters):
        parameters.pop("DryRun", None)
        return call(service, operation, **parameters)

    monkeypatch.setattr(account, "call_service", without_dry_run)
    with pytest.raises(RequestRejected, match="DryRun"):
        may_start(account, made)
