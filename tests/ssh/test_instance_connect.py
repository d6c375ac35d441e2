"""A login's key is told to its instance, by whoever is first."""

import asyncio

import pytest

from ssmtunneld.aws.api.answers import Answer
from ssmtunneld.aws.instance_connect import LIFETIME
from ssmtunneld.errors import AccessDenied, ConfigError, RequestRejected
from ssmtunneld.ssh.instance_connect import InstanceConnectLogin
from ssmtunneld.ssh.settings import settings_for
from ssmtunneld.testing import EmulatorThread
from tests.support.clockwork import virtual
from tests.support.fake_control import elapse

INSTANCE = "i-0123456789abcdef0"


class Calls:
    """Takes keys, or not."""

    def __init__(self):
        self.asked = []
        self.failure = None

    async def ask(self, work):
        return work(self)

    def call_service(self, _service, _operation, **parameters):
        if self.failure is not None:
            raise self.failure
        self.asked.append(parameters)
        return Answer({"Success": True})


@pytest.fixture
def introduce(tmp_path):
    made = []

    def introduction(user="me", host=INSTANCE):
        made.append(InstanceConnectLogin(tmp_path, user, host))
        return made[-1]

    yield introduction
    for one in made:
        one.end()


async def test_the_first_of_several_pushes_the_key(introduce, tmp_path):
    calls = Calls()
    for _ in range(3):
        await introduce().make(calls, INSTANCE)
    (asked,) = calls.asked
    assert asked["InstanceOSUser"] == "me"
    assert asked["SSHPublicKey"].split()[0] == "ssh-ed25519"
    assert (tmp_path / f"me@{INSTANCE}" / "key").exists()


async def test_one_that_came_meanwhile_is_not_pushed_again(introduce):
    first, second = introduce(), introduce()

    class Slow(Calls):
        async def ask(self, work):
            await first.make(quick, INSTANCE)
            return work(self)

    quick, slow = Calls(), Slow()
    await second.make(slow, INSTANCE)
    assert (len(quick.asked), slow.asked) == (1, [])


@virtual
async def test_a_key_that_is_not_accepted_any_more_is_given_up(introduce, tmp_path):
    await introduce().make(Calls(), INSTANCE)
    await elapse(LIFETIME - 1)
    assert (tmp_path / f"me@{INSTANCE}").exists()
    await elapse(2)
    assert not (tmp_path / f"me@{INSTANCE}").exists()


async def test_a_refusal_is_raised(introduce):
    calls = Calls()
    calls.failure = AccessDenied("SendSSHPublicKey", "AccessDenied", "no")
    with pytest.raises(AccessDenied):
        await introduce().make(calls, INSTANCE)


async def test_what_a_search_has_found_must_be_an_instance(introduce):
    calls = Calls()
    with pytest.raises(RequestRejected, match="only for EC2 instances"):
        await introduce(host="name:web-1").make(calls, "mi-0123456789abcdef0")
    assert calls.asked == []


@pytest.mark.parametrize(
    ("user", "host", "words"),
    [
        ("a/../b", INSTANCE, "is not a user of an instance"),
        ("", INSTANCE, "is not a user of an instance"),
        ("me", "mi-0123456789abcdef0", "is not an EC2 instance"),
        ("me", "ecs:prod/api", "is not an EC2 instance"),
        ("me", "web-1", "is not a target"),
    ],
)
def test_what_cannot_be_is_said_before_there_is_a_key(tmp_path, user, host, words):
    with pytest.raises(ConfigError, match=words):
        InstanceConnectLogin(tmp_path, user, host)
    assert list(tmp_path.iterdir()) == []


async def test_with_credentials_of_its_own(introduce, monkeypatch):
    with EmulatorThread() as emulator:
        for name, value in emulator.environment.items():
            monkeypatch.setenv(name, value)
        introduction = introduce()
        async with asyncio.timeout(60):
            await introduction.make_alone(
                lambda: settings_for(INSTANCE, 22, {}, None, {})
            )
        assert introduction._lease.is_fresh(60)
