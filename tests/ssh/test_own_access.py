"""Access to a node for one connection: asked for, awaited, given up."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from ssmtunneld.aws.access_requests import AccessStatus
from ssmtunneld.aws.api.access_keys import AccessKeyHolder
from ssmtunneld.base.foreign import clean
from ssmtunneld.errors import AccessDenied, AccessMissing
from ssmtunneld.sessions.node_access import FIRST_LOOK, NodeAccess
from ssmtunneld.ssh.own_access import following
from tests.sessions.rig import Journal
from tests.sessions.test_node_access import ADVICE, HOUR, Service
from tests.support.clockwork import virtual


@asynccontextmanager
async def connection(reason="why"):
    """Yield the service, whoever waits, and a function that begins to follow."""
    service = Service()
    access = NodeAccess(
        "proxy",
        service,
        service.choose,
        AccessKeyHolder(ADVICE),
        wall_clock=service.now,
        log=Journal().log,
    )
    gone = asyncio.get_running_loop().create_future()
    yield service, access, gone, lambda: following(access, reason, gone)


@virtual
async def test_it_waits_as_long_as_an_approval_takes():
    async with connection() as (service, access, _, follow):
        asyncio.get_running_loop().call_later(
            HOUR / 2, setattr, service, "status", AccessStatus.APPROVED
        )
        async with follow() as is_open:
            assert is_open
            assert access.is_open
        assert service.looks[0] == FIRST_LOOK
        looks = len(service.looks)
        await asyncio.sleep(HOUR)
        assert len(service.looks) == looks


@virtual
async def test_without_a_reason_nothing_is_asked():
    async with connection(reason=None) as (service, _, _, follow):
        with pytest.raises(AccessMissing) as caught:
            async with follow():
                pytest.fail("there is no access")
        assert caught.value.advice == ADVICE
        assert service.asked == []


@virtual
async def test_a_rejection_ends_it():
    async with connection() as (service, _, _, follow):
        service.status = AccessStatus.REJECTED
        with pytest.raises(AccessMissing, match="was rejected"):
            async with follow():
                pytest.fail("there is no access")


@virtual
async def test_a_refusal_of_the_request_ends_it():
    async with connection() as (service, access, _, follow):

        async def start(_target, _reason):
            raise AccessDenied("StartAccessRequest", clean("A"), clean("no"), "allow")

        service.start = start
        with pytest.raises(AccessDenied):
            async with follow():
                pytest.fail("there is no access")
        assert access.request is None


@virtual
async def test_whoever_leaves_is_not_waited_for():
    async with connection() as (_, _, gone, follow):
        asyncio.get_running_loop().call_later(100, gone.set_result, None)
        async with follow() as is_open:
            assert not is_open
        assert asyncio.get_running_loop().time() == 100


@virtual
async def test_keys_are_renewed_while_the_connection_lives():
    async with connection() as (service, access, _, follow):
        service.status = AccessStatus.APPROVED
        service.ends_at += 5 * HOUR
        async with follow():
            await asyncio.sleep(3 * HOUR)
            assert access.is_open


@virtual
async def test_what_fails_within_is_raised_as_it_is():
    async with connection() as (service, _, _, follow):
        service.status = AccessStatus.APPROVED
        with pytest.raises(AccessDenied):
            async with follow():
                raise AccessDenied("StartSession", clean("A"), clean("no"))
