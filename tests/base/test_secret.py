"""A secret prints as stars wherever it can be printed."""

import copy
import json
import pickle

import pytest

from ssmtunneld.base.redaction import redact
from ssmtunneld.base.secret import Secret
from ssmtunneld.errors import RemoteProtocolError

CANARY = "canary-4f1e144"


@pytest.mark.parametrize(
    "show",
    [
        str,
        repr,
        ascii,
        "{}".format,
        "{!r}".format,
        "{0!s:>40}".format,
        lambda secret: f"{secret}",
        lambda secret: "%s %r" % (secret, secret),  # noqa: UP031 - the old form is what is tested
        lambda secret: str([secret]) + repr({"token": secret}),
        lambda secret: str(RemoteProtocolError(secret)),
        lambda secret: repr(RemoteProtocolError(secret)),
        lambda secret: json.dumps(secret, default=str),
    ],
)
def test_a_secret_never_prints(show):
    assert CANARY not in show(Secret(CANARY))


def test_only_reveal_tells():
    assert Secret(CANARY).reveal() == CANARY


def test_secrets_compare_by_value_and_only_with_secrets():
    assert Secret(CANARY) == Secret(CANARY)
    assert Secret(CANARY) != Secret("other")
    assert Secret(CANARY) != CANARY


def test_equal_secrets_share_a_place_in_a_set():
    assert len({Secret(CANARY), Secret(CANARY), Secret("other")}) == 2


@pytest.mark.parametrize("save", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_secret_is_never_serialised(save):
    with pytest.raises(TypeError, match="never serialised"):
        save(Secret(CANARY))


def test_a_secret_has_no_other_attributes_to_leak():
    with pytest.raises(TypeError, match="__dict__"):
        vars(Secret(CANARY))


def test_what_is_said_is_kept_free_of_a_secret():
    value = "Vb6x/Tq1+" * 4
    Secret(value)
    assert redact(f"it is {value[:20]}, is it not") == "it is ***, is it not"


def test_a_derived_secret_does_not_print_but_its_ordinary_parts_may():
    url = Secret.derived("http://me:pw@proxy-7.example.com:3128")
    assert str(url) == "***"
    assert url.reveal() == "http://me:pw@proxy-7.example.com:3128"
    assert redact("no way to proxy-7.example.com:3128") == (
        "no way to proxy-7.example.com:3128"
    )
