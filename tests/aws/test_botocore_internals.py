"""botocore's private names: which of them a release lacks, and that they do their work.

If one of these fails after an update of botocore, the message names what has gone; all
that must follow stands in ``aws/botocore_internals.py``.
"""

import ast
from pathlib import Path
from xml.etree.ElementTree import tostring

import botocore
import pytest
from botocore.credentials import Credentials
from botocore.parsers import ResponseParserError
from botocore.session import Session

import ssmtunneld
from ssmtunneld.aws import botocore_internals
from ssmtunneld.aws.botocore_internals import (
    CONTRACT,
    expiry_of,
    parse_in_pieces,
    replace_processes,
)
from ssmtunneld.errors import RequestRejected


@pytest.mark.parametrize("private", CONTRACT, ids=lambda private: private.name)
def test_this_botocore_has(private):
    told = f"botocore {botocore.__version__} has no {private.name} as we use it"
    try:
        holds = private.holds()
    except (RequestRejected, AttributeError, KeyError, TypeError, ImportError) as error:
        pytest.fail(f"{told}: {type(error).__name__}")
    assert holds, told


def test_keys_that_never_end_have_no_expiry():
    assert expiry_of(Credentials("AKIA", "secret")) is None


def test_xml_in_pieces_is_xml():
    session = Session()
    own = session.get_component("response_parser_factory")
    parse_in_pieces(session)
    ours = session.get_component("response_parser_factory")
    text = ("<a>" + "<b c='d'>\u00e9 &lt; e</b>\n" * 5000 + "</a>").encode()
    parsed = [
        tostring(factory.create_parser("query")._parse_xml_string_to_dom(text))
        for factory in (own, ours)
    ]
    assert parsed[0] == parsed[1]
    assert type(ours.create_parser("json")) is type(own.create_parser("json"))


def test_what_is_no_xml_is_not_quoted():
    session = Session()
    parse_in_pieces(session)
    parser = session.get_component("response_parser_factory").create_parser("ec2")
    with pytest.raises(ResponseParserError) as caught:
        parser._parse_xml_string_to_dom(b"<a>canary")
    assert "canary" not in str(caught.value)


def test_a_name_that_has_gone_is_an_error_and_not_ignored():
    session = Session()
    provider = session.get_component("credential_provider").get_provider(
        botocore_internals.PROCESS
    )
    del vars(provider)["_popen"]
    with pytest.raises(
        RequestRejected, match=r"has no ProcessProvider\._popen"
    ) as told:
        replace_processes(session, print)
    assert botocore.__version__ in str(told.value)
    assert told.value.advice


def test_a_method_that_has_gone_is_an_error_too():
    with pytest.raises(RequestRejected, match=r"has no int\._gone"):
        botocore_internals._method(5, "_gone")


def test_nothing_else_touches_what_is_private_to_botocore():
    """``vars(x)["_y"]`` is how it is done, and all of it stands in one file."""
    here = Path(botocore_internals.__file__)
    for path in Path(ssmtunneld.__file__).parent.rglob("*.py"):
        if path == here:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            touches = (
                isinstance(node, ast.Subscript)
                and isinstance(node.value, ast.Call)
                and getattr(node.value.func, "id", "") == "vars"
            )
            assert not touches, f"{path}:{node.lineno}"
