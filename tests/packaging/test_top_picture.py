"""The guide's picture of `top` shows what is drawn today."""

from xml.etree import ElementTree as ET

from tests.support.tui import need_textual

need_textual()


def test_the_picture_is_what_top_draws_today():
    from tests.packaging.top_picture import PICTURE, draw, texts_of

    assert texts_of(PICTURE.read_text("utf-8")) == texts_of(draw()), "run: make picture"


def test_the_picture_needs_nothing_else_and_the_guide_shows_it():
    from tests.packaging.top_picture import PICTURE

    text = PICTURE.read_text("utf-8")
    assert ET.fromstring(text).tag == "{http://www.w3.org/2000/svg}svg"
    assert "://" not in text.replace("http://www.w3.org/2000/svg", "").replace(
        "https://www.textualize.io", ""
    )
    assert "(top.svg)" in (PICTURE.parent / "guide.md").read_text("utf-8")
