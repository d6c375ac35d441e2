"""A tunnel in one line."""

from ssmtunneld.cli.terminal.tunnel_line import (
    REFUSAL_NOTICE,
    describe,
    describe_refusal,
)
from tests.cli.household import tunnel_document, waiting


def test_reasons_are_one_harmless_line():
    assert describe(waiting(reason="a\nb\x1b[2J", advice="")) == (
        "dead: waiting: a b\\u001b[2J"
    )


def refused(age=3.0, reason="could not\nconnect", **facts):
    last = {"reason": reason, "advice": "look\nthere", "age": age}
    return describe_refusal(tunnel_document(last_refusal=last, **facts))


def test_a_refusal_names_the_destination_and_the_cure():
    assert refused() == (
        "connection to orders:5432 refused 3s ago: could not connect",
        "look there",
    )


def test_the_destinations_of_a_proxy_are_named_by_its_clients():
    assert refused(mode="socks5")[0] == "connection refused 3s ago: could not connect"


def test_what_nobody_knows_or_is_long_ago_is_not_told():
    assert refused(age=REFUSAL_NOTICE) == refused(reason="") == ("", "")
    assert describe_refusal(tunnel_document(last_refusal=None)) == ("", "")
    older = tunnel_document()
    older.pop("last_refusal", None)
    assert describe_refusal(older) == ("", "")
