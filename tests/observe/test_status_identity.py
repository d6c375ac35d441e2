"""An identity in the status document: what it says, and what nobody knows."""

from dataclasses import asdict

from tests.observe.samples import daemon, identity, tunnel


def test_the_document_has_the_identities_of_its_tunnels():
    who = identity(tunnels=("db", "web"), expires_at=2e9, login_ends_at=1.9e9)
    document = daemon(tunnel(), identities=(who,)).as_document()
    assert document["identities"] == (asdict(who),)


def test_what_is_not_known_is_none():
    found = asdict(identity())
    assert (found["expires_at"], found["login_ends_at"]) == (None, None)
    assert found["advice"] == ""
