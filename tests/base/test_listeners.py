"""Whoever is told of a change, and breaks, is nobody else's business."""

import pytest

from ssmtunneld.base.compartment import Defects
from ssmtunneld.base.listeners import Listeners
from tests.support.turns import turns


class Lines:
    def __init__(self):
        self.events = []

    def error(self, event, **facts):
        self.events.append((event, facts["compartment"], facts["kind"]))


def test_all_are_told_as_long_as_they_listen():
    listeners, told = Listeners("login"), []
    with listeners.telling(lambda: told.append("first")):
        with listeners.telling(lambda: told.append("second")):
            listeners.tell()
        listeners.tell()
    listeners.tell()
    assert told == ["first", "second", "first"]


def test_one_may_leave_while_all_are_told():
    listeners, told = Listeners("login"), []
    with listeners.telling(lambda: told.append("stays")):
        leaving = listeners.telling(lambda: leaving.__exit__(None, None, None))
        leaving.__enter__()
        listeners.tell()
        listeners.tell()
    assert told == ["stays", "stays"]


async def test_one_that_breaks_is_a_defect_of_its_own_compartment():
    listeners, told = Listeners("login"), []
    broken, other = Lines(), Lines()

    async def listen(listener, until):
        with listeners.telling(listener):
            await until()

    async def tell():
        await turns()
        listeners.tell()

    async def both():
        await Defects(broken).attempt("login", lambda: listen(int.__new__, inner))

    async def inner():
        with listeners.telling(lambda: told.append("told")):
            await Defects(other).attempt("login", tell)

    await both()
    assert told == ["told"]
    assert broken.events == [("defect", "login", "TypeError")]
    assert other.events == []


def test_where_there_is_no_compartment_it_is_raised():
    listeners = Listeners("login")
    with listeners.telling(lambda: 1 / 0), pytest.raises(ZeroDivisionError):
        listeners.tell()
