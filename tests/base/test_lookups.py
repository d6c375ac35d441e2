"""Names are looked up side by side: one without an answer holds up no other."""

import socket
import threading

import pytest

from ssmtunneld.base import lookups
from ssmtunneld.base.lookups import Lookups, TooManyLookups
from ssmtunneld.base.threads import NoThread
from tests.support.name_server import NameServer
from tests.support.threads import no_thread

PATIENCE = 30.0


@pytest.fixture
def names(monkeypatch):
    with NameServer(monkeypatch) as server:
        yield server


def addresses(found):
    return [answer[4] for answer in found.result(PATIENCE)]


def test_a_name_has_its_addresses_and_an_address_is_one(names):
    made = Lookups()
    assert ("127.0.0.1", 80) in addresses(made.begin("localhost", 80))
    with no_thread():
        assert addresses(made.begin("127.0.0.1", 80)) == [("127.0.0.1", 80)]
        assert addresses(made.begin("::1", 80))[0][:2] == ("::1", 80)


def test_a_name_that_has_too_many_addresses_is_tried_at_the_first_ones(names):
    names.known["many.example"] = [f"127.0.0.{n}" for n in range(1, 20)]
    found = addresses(Lookups().begin("many.example", 1))
    assert found == [(f"127.0.0.{n}", 1) for n in range(1, lookups.ADDRESS_LIMIT + 1)]


@pytest.mark.parametrize("name", ["a..b", "x" * 64 + ".example", "no.such.invalid"])
def test_a_name_without_an_address_is_one_error_whatever_its_form(name):
    with pytest.raises(socket.gaierror):
        Lookups().begin(name, 443).result(PATIENCE)


def test_a_name_without_an_answer_holds_up_no_other(names):
    made = Lookups()
    silent = [made.begin("silent.example", 1) for _ in range(1000)]
    assert addresses(made.begin("localhost", 80))
    assert not any(found.done() for found in silent)


def test_who_asks_at_the_same_time_shares_an_answer(names, monkeypatch):
    made = Lookups()
    names.known["slow.example"] = ["127.0.0.7"]
    names.hold("slow.example")
    first = made.begin("slow.example", 1)
    assert made.begin("slow.example", 1) is first
    assert made.begin("slow.example", 2) is not first
    # Later the network can be another one: asked again, and in the end no more.
    monkeypatch.setattr(lookups, "SHARED", 0.0)
    later = [made.begin("slow.example", 1) for _ in range(10)]
    assert len({first, *later}) == lookups.NAME_LIMIT
    assert not first.cancel()
    names.release()
    assert addresses(later[-1]) == addresses(first) == [("127.0.0.7", 1)]


def test_there_is_room_for_so_many_and_again_once_they_are_over(names, monkeypatch):
    monkeypatch.setattr(lookups, "LOOKUP_LIMIT", 2)
    made = Lookups()
    held = [made.begin(f"silent{n}.example", 1) for n in range(2)]
    with pytest.raises(TooManyLookups, match="2 other lookups"):
        made.begin("localhost", 80)
    names.release()
    for found in held:
        assert isinstance(found.exception(PATIENCE), socket.gaierror)
    names.await_idle()
    assert addresses(made.begin("localhost", 80))


def test_where_no_thread_is_allowed_it_is_said_and_forgotten(names):
    made = Lookups()
    with no_thread(), pytest.raises(NoThread):
        made.begin("localhost", 80).result(0)
    assert addresses(made.begin("localhost", 80))


def test_whatever_is_raised_is_raised_where_it_is_waited_for(monkeypatch):
    def broken(*_, **__):
        raise ZeroDivisionError

    monkeypatch.setattr(socket, "getaddrinfo", broken)
    made = Lookups()
    with pytest.raises(ZeroDivisionError):
        made.begin("localhost", 80).result(PATIENCE)


def test_threads_do_not_hold_up_the_end(names):
    Lookups().begin("silent.example", 1)
    assert all(t.daemon for t in threading.enumerate() if t.name == "lookup")
