"""The README's picture shows what the commands print."""

from xml.etree import ElementTree as ET

import pytest

from tests.packaging.picture import PICTURE, draw, play, screen, texts_of
from tests.support.ports import free_port


@pytest.mark.integration
def test_the_picture_is_what_the_commands_print_today():
    shown = texts_of(draw(play("127.0.0.1", 0, free_port())))
    # Not every system has the second loopback address, where `make picture` serves.
    now = [line for line in shown if "any port, because" not in line]
    assert texts_of(PICTURE.read_text("utf-8")) == now, "run: make picture"


def test_the_picture_is_a_document_of_its_own_that_the_readme_shows():
    text = PICTURE.read_text("utf-8")
    root = ET.fromstring(text)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert "href" not in text
    readme = (PICTURE.parents[1] / "README.md").read_text("utf-8")
    assert "(docs/open.svg)" in readme.partition("\n## ")[0]


def test_what_was_overwritten_is_not_on_the_screen():
    raw = "one\r\n\r\x1b[Kup 0\r\x1b[Ktwo: ready\r\nup 0\r\x1b[Kup 1\r\n\r\n"
    assert screen(raw) == ["one", "two: ready", "up 1"]
