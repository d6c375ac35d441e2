"""The survey of connections, over tunnels whose connections the test makes."""

import asyncio
from types import SimpleNamespace

import pytest

from ssmtunneld.daemon import connection_survey
from ssmtunneld.daemon.connection_survey import BATCH, ConnectionSurvey
from ssmtunneld.listener.client import Client
from ssmtunneld.listener.relay import Meter
from tests.support.clockwork import turns, virtual


class FakeTunnel:
    """A tunnel with connections that move what the test says."""

    def __init__(self, name="db", *, dynamic=False):
        self.settings = SimpleNamespace(name=name)
        self.fixed_destination = None if dynamic else "orders:5432"
        self.open = []
        self.server = SimpleNamespace(connections=lambda: tuple(self.open))

    def connect(self, since=0.0, *, settled=True):
        connection = SimpleNamespace(
            name=f"{self.settings.name}-{len(self.open)}",
            peer="127.0.0.1:40000",
            since=since,
            client=Client(settled=settled),
            meter=Meter(),
            remote=None,
            destination=None,
        )
        self.open.append(connection)
        return connection


def survey_of(*tunnels, **how):
    return ConnectionSurvey(lambda: tunnels, wall_clock=lambda: 1000.0, **how)


@pytest.fixture
def db():
    return FakeTunnel()


@virtual
async def test_without_connections_it_answers_at_once():
    assert await survey_of(FakeTunnel()).get() == []
    assert asyncio.get_running_loop().time() == 0.0


def test_rates_are_of_the_time_since_the_look_before(db):
    @virtual
    async def check():
        survey, old = survey_of(db), db.connect()
        old.meter.sent = 10**6
        loop = asyncio.get_running_loop()
        loop.call_later(0.1, setattr, old.meter, "sent", 10**6 + 500)
        (first,) = await survey.get()
        assert loop.time() == connection_survey.RATE_TIME
        assert (first.sent, first.sent_rate) == (10**6 + 500, 1000)
        await asyncio.sleep(2.0)
        old.meter.received = 600
        new = db.connect(since=loop.time() - 0.5)
        new.meter.received = 600
        second, other = await survey.get()
        assert loop.time() == connection_survey.RATE_TIME + 2.0, "no wait any more"
        assert (second.sent_rate, second.received_rate) == (0, 300)
        assert other.received_rate == 1200
        await asyncio.sleep(connection_survey.RATE_AGE + 1)
        before = loop.time()
        assert [each.received_rate for each in await survey.get()] == [0, 0]
        assert loop.time() == before + connection_survey.RATE_TIME

    check()


def test_it_looks_once_a_second_for_everybody(db):
    @virtual
    async def check():
        looks = []
        survey = survey_of(db, find_out=looks.append)
        db.connect()
        found = await asyncio.gather(*(survey.get() for _ in range(5)))
        assert all(each is found[0] for each in found)
        db.connect()
        assert len(await survey.get()) == 1
        await asyncio.sleep(1.0)
        assert len(await survey.get()) == 2
        assert looks == [], "everybody was known"

    check()


@virtual
async def _check_that_what_has_ended_is_gone(db):
    survey = survey_of(db)
    for _ in range(3):
        db.connect()
    assert len(await survey.get()) == 3
    del db.open[1]  # as a kill does
    assert [each.id for each in await survey.get()] == ["db-0", "db-2"]


def test_what_has_ended_since_the_look_is_not_there_any_more(db):
    _check_that_what_has_ended_is_gone(db)


async def test_who_is_not_known_yet_is_looked_for_once(db):
    asked = []

    def find_out(clients):
        asked.append(list(clients))
        for client in clients:
            client.user, client.settled = "ada", True

    db.connect(settled=False)
    db.connect()
    survey = survey_of(db, find_out=find_out)
    found = await survey.get()
    assert [each.user for each in found] == ["ada", None]
    assert [len(clients) for clients in asked] == [1]


def test_tunnels_come_in_their_order_with_their_destinations(db):
    @virtual
    async def check():
        other = FakeTunnel("any", dynamic=True)
        other.connect()
        db.connect(since=-5.0)
        found = await survey_of(other, db).get()
        assert [(each.tunnel, each.destination) for each in found] == [
            ("any", ""),
            ("db", "orders:5432"),
        ]
        assert (found[1].age, found[1].since) == (5.5, 994.5)

    check()


def test_others_have_their_turn_between_thousands(db):
    @virtual
    async def check():
        for _ in range(3 * BATCH):
            db.connect()
        survey = survey_of(db)
        async with asyncio.TaskGroup() as tasks:
            looking = tasks.create_task(survey.get())
            await asyncio.sleep(connection_survey.RATE_TIME)
            seen = 0
            while not looking.done():
                await turns(1)
                seen += 1
        assert seen >= 3
        assert len(looking.result()) == 3 * BATCH

    check()
