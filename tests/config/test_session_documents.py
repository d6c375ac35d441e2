"""The documents of AWS have one spelling, everywhere."""

import re
from pathlib import Path

import pytest

from ssmtunneld.config.session_documents import (
    PORT_DOCUMENT,
    REMOTE_HOST_DOCUMENT,
    SSH_DOCUMENT,
    takes_destination,
)
from ssmtunneld.emulator.documents import BUILT_IN

ROOT = Path(__file__).parents[2]
NAMES = {PORT_DOCUMENT, REMOTE_HOST_DOCUMENT, SSH_DOCUMENT}


def test_the_emulator_knows_the_same_documents():
    assert BUILT_IN.keys() == NAMES


def test_no_help_and_no_page_names_a_document_that_does_not_exist():
    files = [*ROOT.glob("ssmtunneld/**/*.py"), *ROOT.glob("docs/*.md")]
    found = {
        name
        for path in files
        for name in re.findall(r"AWS-Start[A-Za-z]+", path.read_text("utf-8"))
    }
    assert found >= NAMES
    # The documents for commands and shells, which docs mention as something to deny,
    # and one whose content nobody has seen (protocol 9, item 11).
    assert found - NAMES <= {
        "AWS-StartInteractiveCommand",
        "AWS-StartNonInteractiveCommand",
        "AWS-StartPortForwarding",
        "AWS-StartPortForwardingSessionToSocket",
    }


@pytest.mark.parametrize(
    ("document", "takes"),
    [
        *((name, True) for name in sorted(NAMES)),
        (f"arn:aws:ssm:eu-west-1::document/{PORT_DOCUMENT}", True),
        ("Acme-OrdersDatabase", False),
        ("arn:aws:ssm:eu-west-1:111122223333:document/Acme-AWS-Db", False),
    ],
)
def test_only_documents_of_aws_are_told_the_destination(document, takes):
    assert takes_destination(document) is takes
