import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssmtunneld.base.foreign import MESSAGE_LIMIT, clean, without_page

ANYTHING = st.text(st.characters(exclude_categories=()), max_size=2000)


@given(ANYTHING | st.binary(max_size=2000))
def test_whatever_comes_is_one_short_printable_line(words):
    found = clean(words)
    assert len(found) <= MESSAGE_LIMIT
    assert found.isprintable()
    assert found == found.strip()
    found.encode("utf-8")


@given(ANYTHING)
def test_cleaning_twice_changes_nothing(words):
    assert clean(clean(words)) == clean(words)


def test_plain_words_stay_as_they_are():
    assert clean("Unable to connect: é, 漢字") == "Unable to connect: é, 漢字"


def test_a_terminal_gets_no_orders():
    assert clean("a\x1b[31mred\x1b[0m b\x1b]0;title\x07c") == "a red b c"
    assert clean("up\x9b2Jdown") == "up down"


def test_lines_surrogates_and_directions_become_spaces():
    assert clean("a\r\nb\ud800c\u202ed\u2066e\x00f") == "a b c d e f"


def test_what_is_cut_off_is_marked():
    assert clean("x" * 5000) == "x" * (MESSAGE_LIMIT - 1) + "…"
    assert clean("x" + "\n" * 5_000_000 + "y") == "x…"
    assert clean("abcdef", 3) == "ab…"


def test_bytes_are_read_as_utf_8_as_far_as_they_are():
    assert clean(b"ok \xff\xfe \xc3\xa9") == "ok �� é"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            "<!doctype html>\n<html lang=en>\n<title>500 No</title><p>x",
            "a web page: 500 No",
        ),
        ("<html><head><TITLE>a &amp;\n b</TITLE>", "a web page: a & b"),
        ("<!-- x --> <html><body><h1 class=x>Sorry</h1>", "a web page: Sorry"),
        ("<html>" + "x" * 100_000 + "<title>far</title>", "a web page"),
        ("<html><title>" + "t" * 150 + "</title>", "a web page: " + "t" * 79 + "…"),
        ("<html>", "a web page"),
        ("no <html> at all", "no <html> at all"),
        ("", ""),
    ],
)
def test_of_a_page_only_its_title_is_kept(words, told):
    assert without_page(words) == told
    assert without_page(told) == told


@given(st.text(), st.text())
def test_whatever_a_page_has_it_is_bounded(head, tail):
    page = without_page(f"<html>{head}<title>{tail}")
    assert len(page) <= len("a web page: ") + 80
    assert page.isprintable()
