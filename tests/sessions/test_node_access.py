"""The life of a request for node access, in virtual time."""

import asyncio
from contextlib import asynccontextmanager
from itertools import pairwise

import pytest

from ssmtunneld.aws.access_requests import AccessStatus, AccessToken
from ssmtunneld.aws.api.access_keys import AccessKeyHolder, AccessKeys
from ssmtunneld.base.foreign import clean
from ssmtunneld.base.secret import Secret
from ssmtunneld.errors import (
    AccessDenied,
    AccessMissing,
    RequestRejected,
    SsmtunneldError,
    TargetNotFound,
    Throttled,
)
from ssmtunneld.sessions.node_access import (
    FIRST_LOOK,
    LONGEST,
    RENEWAL,
    REVIEW,
    SHORTEST,
    AccessRequest,
    AccessTargetSelector,
    KeptRequests,
    NodeAccess,
)
from tests.sessions.rig import Journal
from tests.support.clockwork import virtual

NODE = "i-0123456789abcdef0"
NOON = 1_000_000.0
ADVICE = "run: ssmtunneld request db --reason TEXT"
HOUR = 3600.0


class Service:
    """AWS: what it answers, and when it was asked."""

    def __init__(self):
        self.loop = asyncio.get_running_loop()
        self.status = AccessStatus.PENDING
        self.statuses = {}
        self.ends_at = NOON + HOUR
        self.failure = None
        self.asked, self.looks = [], []
        self.issued = 0

    def now(self):
        return NOON + self.loop.time()

    async def choose(self):
        return NODE

    async def start(self, target, reason):
        self.asked.append((target, reason))
        return f"oi-{len(self.asked):012x}"

    async def token(self, request_id):
        self.looks.append(self.loop.time())
        await asyncio.sleep(0)
        if self.failure is not None:
            raise self.failure
        status = self.statuses.get(request_id, self.status)
        if status is None:
            raise RequestRejected(
                "GetAccessToken", clean("ResourceNotFoundException"), clean("none")
            )
        if status is not AccessStatus.APPROVED:
            return AccessToken(status)
        self.issued += 1
        ends_at = min(self.now() + HOUR, self.ends_at)
        keys = AccessKeys(f"ASIA{self.issued}", Secret("s"), Secret("t"), ends_at)
        return AccessToken(self.status, keys)


class Store:
    """Keeps requests, as a file would."""

    def __init__(self, latest=None):
        self.found = KeptRequests(latest)
        self.retries = 0

    async def keep(self, requests):
        self.found = requests

    async def retry(self):
        self.retries += 1


@asynccontextmanager
async def following(store=None, *, tasks_of=1):
    """Yield the access of a tunnel, followed; its service and journal are in it."""
    service, journal, holder = Service(), Journal(), AccessKeyHolder(ADVICE)
    access = NodeAccess(
        "db",
        service,
        service.choose,
        holder,
        wall_clock=service.now,
        log=journal.log,
        store=store,
    )
    access.service, access.journal, access.holder = service, journal, holder
    access.heard = 0

    def hear():
        access.heard += 1

    async with asyncio.TaskGroup() as tasks:
        with access.telling(hear):
            attending = [tasks.create_task(access.attend()) for _ in range(tasks_of)]
            yield access
            for task in attending:
                task.cancel()


@virtual
async def test_nobody_has_asked_and_nothing_is_looked_at():
    async with following() as access:
        await asyncio.sleep(HOUR)
        assert access.service.looks == []
        missing = access.missing
        assert isinstance(missing, AccessMissing)
        assert not missing.pending
        assert (str(missing), missing.advice) == (
            "nobody has asked for access to the node",
            ADVICE,
        )


@virtual
async def test_a_request_is_looked_at_every_ten_to_sixty_seconds():
    async with following(tasks_of=3) as access:
        request = await access.ask("a broken index")
        assert request == AccessRequest("oi-000000000001", NODE, "a broken index", NOON)
        assert access.service.asked == [(NODE, "a broken index")]
        await asyncio.sleep(HOUR)
        looks = access.service.looks
        assert looks[0] == FIRST_LOOK
        gaps = [later - before for before, later in pairwise(looks)]
        assert gaps[:3] == [SHORTEST, 15.0, 22.5]
        assert gaps == sorted(gaps)
        assert gaps[-1] == LONGEST
        assert access.missing.pending
        assert "oi-000000000001 awaits approval" in str(access.missing)
        assert "oi-000000000001" in access.missing.advice


@virtual
async def test_a_connection_that_waits_hastens_the_next_look_within_politeness():
    async with following() as access:
        await access.ask("why")
        await asyncio.sleep(200)
        looks = len(access.service.looks)
        last = access.service.looks[-1]
        await asyncio.sleep(12)
        for _ in range(5):
            access.hurry()
            await asyncio.sleep(0.5)
        assert len(access.service.looks) == looks + 1
        access.hurry()
        await asyncio.sleep(SHORTEST)
        assert len(access.service.looks) == looks + 2
        gaps = [b - a for a, b in pairwise([last, *access.service.looks[looks:]])]
        assert min(gaps) >= SHORTEST


@virtual
async def test_an_approval_gives_keys_and_tells():
    async with following() as access:
        await access.ask("why")
        heard = access.heard
        access.service.status = AccessStatus.APPROVED
        await asyncio.sleep(FIRST_LOOK + 0.1)
        assert access.is_open
        assert access.missing is None
        assert access.target == NODE
        assert access.heard == heard + 1
        assert access.holder.keys.access_key == "ASIA1"
        assert access.expires_at == NOON + HOUR
        assert await AccessTargetSelector(access).choose() == NODE
        assert access.journal.lines("access.granted")


@virtual
async def test_an_approval_is_reviewed_and_its_keys_are_replaced_before_their_end():
    async with following() as access:
        access.service.status = AccessStatus.APPROVED
        access.service.ends_at = NOON + 3 * HOUR
        await access.ask("why")
        await asyncio.sleep(3 * HOUR - 10)
        assert access.is_open
        looks = access.service.looks
        gaps = [later - before for before, later in pairwise(looks)]
        assert max(gaps) == REVIEW
        assert min(gaps) >= LONGEST
        # One access, however many keys.
        assert len(access.journal.lines("access.granted")) == 1
        await asyncio.sleep(11)
        assert not access.is_open


@virtual
async def test_the_end_of_the_access_is_told_at_once():
    async with following() as access:
        access.service.status = AccessStatus.APPROVED
        await access.ask("why")
        await asyncio.sleep(HOUR - RENEWAL)
        access.service.status = AccessStatus.EXPIRED
        heard = access.heard
        await asyncio.sleep(RENEWAL + 0.1)
        assert access.status is AccessStatus.EXPIRED
        assert access.heard > heard
        assert access.holder.keys is None
        assert not access.missing.pending
        assert (str(access.missing), access.missing.advice) == (
            "access request oi-000000000001 has expired",
            ADVICE,
        )
        assert len(access.journal.lines("access.expired")) == 1
        with pytest.raises(AccessMissing):
            await AccessTargetSelector(access).choose()
        looks = len(access.service.looks)
        await asyncio.sleep(HOUR)
        assert len(access.service.looks) == looks


@virtual
async def test_keys_that_end_while_aws_is_away_are_not_used_and_come_back_with_it():
    async with following() as access:
        access.service.status = AccessStatus.APPROVED
        access.service.ends_at = NOON + 9 * HOUR
        await access.ask("why")
        await asyncio.sleep(HOUR / 2)
        access.service.failure = Throttled("GetAccessToken", clean("T"), clean("no"))
        await asyncio.sleep(HOUR)
        assert not access.is_open
        access.service.failure = None
        await asyncio.sleep(LONGEST + 1)
        assert access.is_open


@pytest.mark.parametrize(
    ("status", "words"),
    [(AccessStatus.REJECTED, "was rejected"), (AccessStatus.REVOKED, "was revoked")],
)
def test_a_request_that_is_over_is_looked_at_no_more(status, words):
    @virtual
    async def run():
        async with following() as access:
            await access.ask("why")
            access.service.status = status
            await asyncio.sleep(FIRST_LOOK + 0.1)
            assert access.status is status
            assert words in str(access.missing)
            assert access.missing.advice == ADVICE
            await asyncio.sleep(HOUR)
            assert len(access.service.looks) == 1
            # And somebody may ask again.
            again = await access.ask("please")
            assert again.id == "oi-000000000002"
            assert access.missing.pending

    run()


@virtual
async def test_a_revocation_ends_an_access_at_the_next_review():
    async with following() as access:
        access.service.status = AccessStatus.APPROVED
        await access.ask("why")
        await asyncio.sleep(10)
        access.service.status = AccessStatus.REVOKED
        await asyncio.sleep(REVIEW)
        assert access.holder.keys is None
        assert access.status is AccessStatus.REVOKED


@virtual
async def test_a_refused_call_brings_the_review_forward_once_a_minute_at_most():
    async with following() as access:
        access.service.status = AccessStatus.APPROVED
        await access.ask("why")
        await asyncio.sleep(2)
        before = len(access.service.looks)
        denied = AccessDenied("StartSession", clean("AccessDenied"), clean("no"))
        for _ in range(100):
            access.note(denied)
            await asyncio.sleep(2)
        assert 3 <= len(access.service.looks) - before <= 4
        access.note(None)
        # What the keys do not allow is no end of the access.
        assert access.is_open


@virtual
async def test_only_one_request_is_undecided_at_a_time():
    async with following() as access:
        await access.ask("why")
        with pytest.raises(SsmtunneldError, match="oi-000000000001 awaits") as caught:
            await access.ask("once more")
        assert "--wait" in caught.value.advice
        assert len(access.service.asked) == 1


@virtual
async def test_what_holds_goes_on_while_more_is_asked_for_and_rejected():
    async with following() as access:
        access.service.status = AccessStatus.APPROVED
        await access.ask("why")
        await asyncio.sleep(2)
        access.service.status = AccessStatus.PENDING
        await access.ask("an hour more")
        await asyncio.sleep(20)
        assert access.is_open
        access.service.status = AccessStatus.REJECTED
        await asyncio.sleep(60)
        assert access.status is AccessStatus.REJECTED
        assert access.is_open
        # The service says the same of both by now.
        await asyncio.sleep(REVIEW)
        assert not access.is_open
        assert "was rejected" in str(access.missing)


FIRST, SECOND = "oi-000000000001", "oi-000000000002"


@asynccontextmanager
async def approved_for_nine_hours(store=None):
    """Yield an access that holds, while more of it is asked for."""
    async with following(store) as access:
        access.service.ends_at = NOON + 9 * HOUR
        access.service.statuses[FIRST] = AccessStatus.APPROVED
        told = asyncio.Event()
        with access.telling(told.set):
            await access.ask("why")
            while not access.is_open:
                told.clear()
                await told.wait()
        await access.ask("more")
        yield access


def test_what_holds_outlasts_its_keys_whatever_becomes_of_the_request_for_more():
    @virtual
    async def run(status):
        async with approved_for_nine_hours() as access:
            access.service.statuses[SECOND] = status
            for _ in range(60):
                await asyncio.sleep(8 * HOUR / 60)
                assert access.is_open
            await asyncio.sleep(HOUR)
            assert not access.is_open
            if status is AccessStatus.PENDING:
                assert access.missing.pending
            # As if there had been no other.
            assert len(access.journal.lines("access.granted")) == 1

    for status in (AccessStatus.PENDING, AccessStatus.REJECTED, None):
        run(status)


@virtual
async def test_what_holds_is_revoked_also_while_more_is_asked_for():
    async with approved_for_nine_hours() as access:
        heard = access.heard
        access.service.statuses[FIRST] = AccessStatus.REVOKED
        await asyncio.sleep(REVIEW + 1)
        assert not access.is_open
        assert access.holder.keys is None
        assert access.heard > heard
        (line,) = access.journal.lines("access.revoked")
        assert line["request"] == FIRST
        assert access.missing.pending
        access.service.statuses[SECOND] = AccessStatus.APPROVED
        await asyncio.sleep(LONGEST)
        assert access.is_open


@virtual
async def test_an_approval_of_more_takes_the_place_of_what_held():
    store = Store()
    async with approved_for_nine_hours(store) as access:
        assert (store.found.latest.id, store.found.older.id) == (SECOND, FIRST)
        access.service.statuses[SECOND] = AccessStatus.APPROVED
        await asyncio.sleep(LONGEST)
        assert store.found.older is None
        access.service.statuses[FIRST] = AccessStatus.EXPIRED
        await asyncio.sleep(HOUR)
        assert access.is_open
        assert access.status is AccessStatus.APPROVED


@virtual
async def test_what_holds_is_found_after_a_restart_though_more_was_asked_for():
    store = Store()
    async with approved_for_nine_hours(store):
        pass
    async with following(store) as access:
        access.service.statuses[FIRST] = AccessStatus.APPROVED
        await asyncio.sleep(0.1)
        assert access.is_open
        assert access.status is AccessStatus.PENDING
        assert access.request.id == SECOND


@virtual
async def test_what_holds_is_never_told_to_be_lost_after_a_restart():
    store, told = Store(), []
    async with approved_for_nine_hours(store):
        pass
    async with following(store) as access:
        access.service.statuses[FIRST] = AccessStatus.APPROVED
        access.service.statuses[SECOND] = AccessStatus.REJECTED
        with access.telling(lambda: told.append((access.status, access.is_open))):
            await asyncio.sleep(1)
    assert told == [(AccessStatus.PENDING, True), (AccessStatus.REJECTED, True)]


@virtual
async def test_a_request_for_more_that_aws_does_not_know_leaves_what_holds():
    store = Store()
    async with approved_for_nine_hours(store) as access:
        access.service.statuses[SECOND] = None
        await asyncio.sleep(5)
        assert access.status is AccessStatus.APPROVED
        assert (access.request.id, store.found.latest.id) == (FIRST, FIRST)
        assert store.found.older is None


@virtual
async def test_a_request_that_aws_does_not_know_brings_nothing_back_that_has_ended():
    store = Store()
    async with following(store) as access:
        access.service.status = AccessStatus.APPROVED
        await access.ask("why")
        await asyncio.sleep(HOUR + 1)
        assert access.status is AccessStatus.EXPIRED
        assert access.target is None
        access.service.status = None
        await access.ask("again")
        await asyncio.sleep(FIRST_LOOK + 1)
        assert not access.missing.pending
        assert (access.request, store.found) == (None, KeptRequests())
        # Nobody is told to wait for it.
        await access.ask("once more")
        assert len(access.service.asked) == 3


@virtual
async def test_keys_that_ended_while_aws_was_away_come_back_though_more_was_asked_for():
    async with following() as access:
        access.service.ends_at = NOON + 9 * HOUR
        access.service.status = AccessStatus.APPROVED
        await access.ask("why")
        await asyncio.sleep(HOUR / 2)
        access.service.failure = Throttled("GetAccessToken", clean("T"), clean("no"))
        await asyncio.sleep(HOUR)
        assert access.status is AccessStatus.EXPIRED
        access.service.statuses[SECOND] = None
        await access.ask("again")
        access.service.failure = None
        await asyncio.sleep(2 * LONGEST)
        assert access.request.id == FIRST
        assert access.is_open
        assert access.status is AccessStatus.APPROVED


@virtual
async def test_what_has_ended_for_good_is_no_target_any_more():
    async with approved_for_nine_hours() as access:
        access.service.statuses[FIRST] = AccessStatus.REVOKED
        await asyncio.sleep(REVIEW + 1)
        assert access.target is None


@virtual
async def test_what_could_not_be_kept_is_tried_again_with_each_look():
    store = Store()
    async with following(store) as access:
        await access.ask("why")
        await asyncio.sleep(HOUR)
        assert store.retries == len(access.service.looks)


@virtual
async def test_a_request_is_kept_and_found_after_a_restart():
    store = Store()
    async with following(store) as access:
        await access.ask("why")
    assert store.found.latest.id == "oi-000000000001"
    async with following(store) as access:
        access.service.status = AccessStatus.APPROVED
        assert access.missing.pending
        await asyncio.sleep(0.1)
        assert access.is_open


@virtual
async def test_requests_that_another_daemon_has_kept_are_followed_once_known():
    kept = Store(AccessRequest(FIRST, NODE, "why", NOON))
    async with following() as access:
        await asyncio.sleep(HOUR / 2)
        access.service.status = AccessStatus.APPROVED
        heard = access.heard
        access.keep_in(kept)
        await asyncio.sleep(0.1)
        assert access.is_open
        assert access.request.id == FIRST
        assert access.heard > heard
        await access.ask("more")
        assert kept.found.older.id == FIRST


@virtual
async def test_who_has_asked_already_keeps_the_own_request():
    kept = Store(AccessRequest("oi-000000000009", NODE, "why", NOON))
    async with following() as access:
        await access.ask("why")
        access.keep_in(kept)
        assert access.request.id == FIRST
        access.service.status = AccessStatus.REJECTED
        await asyncio.sleep(FIRST_LOOK + 1)
        await access.ask("again")
        assert kept.found.latest.id == SECOND


@virtual
async def test_a_request_that_aws_does_not_know_is_forgotten():
    store = Store(AccessRequest("oi-000000000009", NODE, "why", NOON))
    async with following(store) as access:
        access.service.failure = RequestRejected(
            "GetAccessToken", clean("ResourceNotFoundException"), clean("none")
        )
        await asyncio.sleep(HOUR)
        assert len(access.service.looks) == 1
        assert store.found == KeptRequests()
        assert access.status is None
        assert not access.missing.pending


@virtual
async def test_a_look_that_fails_is_told_and_repeated():
    async with following() as access:
        await access.ask("why")
        access.service.failure = AccessDenied(
            "GetAccessToken", clean("AccessDenied"), clean("no"), "allow it"
        )
        await asyncio.sleep(HOUR)
        assert len(access.journal.lines("access.unconfirmed")) == 1
        assert access.missing.pending
        assert "GetAccessToken failed" in str(access.missing)
        assert access.missing.advice == "allow it"
        access.service.failure = None
        access.service.status = AccessStatus.APPROVED
        access.service.ends_at = NOON + 2 * HOUR
        await asyncio.sleep(LONGEST + 1)
        assert access.is_open


@virtual
async def test_a_node_that_is_not_found_is_not_asked_for():
    async with following() as access:

        async def choose():
            raise TargetNotFound("Find", clean("None"), clean("no node matches"))

        access._choose = choose
        with pytest.raises(TargetNotFound):
            await access.ask("why")
        assert access.service.asked == []
        assert access.request is None
