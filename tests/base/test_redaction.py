"""Secrets are recognised in every usual spelling, whole and in pieces."""

import base64
import html
import json
import re
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssmtunneld.base import redaction
from ssmtunneld.base.redaction import (
    Redactor,
    redact,
    redact_document,
    register_answer,
)
from ssmtunneld.base.secret import Secret

SECRET = "k7Qm2/Zt8\"Lp0+V<w5>R'n3&Xb9\\Jd6 Hs1=Gf4Ky="


def redactor(*values):
    made = Redactor()
    for value in values:
        made.register(value)
    return made


def in_base64(text, before="", *, urlsafe=False):
    data = f"{before}{text}!".encode()
    return (base64.urlsafe_b64encode if urlsafe else base64.b64encode)(data).decode()


SPELLINGS = {
    "as it is": SECRET,
    "with another line end": SECRET + "\r",
    "percent-encoded": quote(SECRET, safe=""),
    "percent-encoded in lower case": "".join(
        c if c.isalnum() else f"%{ord(c):02x}" for c in SECRET
    ),
    "percent-encoded in part": quote(SECRET, safe="/=&<>'"),
    "percent-encoded for a form": quote_plus(SECRET),
    "percent-encoded twice": quote(quote(SECRET, safe=""), safe=""),
    "JSON": json.dumps(SECRET),
    "JSON within JSON": json.dumps(json.dumps(SECRET)),
    "JSON with escapes": "".join(f"\\u{ord(c):04x}" for c in SECRET),
    "repr": repr(SECRET),
    "repr of bytes": repr(SECRET.encode()),
    "HTML": html.escape(SECRET),
    "HTML in numbers": "".join(f"&#{ord(c)};" for c in SECRET),
    "HTML in hex": "".join(f"&#x{ord(c):x};" for c in SECRET),
    "base64": in_base64(SECRET),
    "base64 one further": in_base64(SECRET, "u"),
    "base64 two further": in_base64(SECRET, "u:"),
    "base64 for URLs": in_base64(SECRET, "?>", urlsafe=True),
    "base64 percent-encoded": quote(in_base64(SECRET), safe=""),
    "base64 of base64": in_base64(in_base64(SECRET)),
    "base64 of JSON": in_base64(json.dumps({"a": SECRET})),
    "hex": SECRET.encode().hex(),
    "hex in upper case": SECRET.encode().hex().upper(),
    "hex with colons": SECRET.encode().hex(":"),
    "hex with an odd start": "a" + SECRET.encode().hex(),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_secret_is_removed_in_every_spelling(spelling):
    text = f"it is {SPELLINGS[spelling]} no more"
    shown = redactor(SECRET).redact(text)
    assert "***" in shown
    assert shown.startswith("it is ")
    assert shown.endswith("no more")
    for start in range(len(SPELLINGS[spelling]) - 12):
        assert SPELLINGS[spelling][start : start + 12] not in shown


@pytest.mark.parametrize("start", range(0, len(SECRET) - 8, 3))
def test_eight_characters_are_enough(start):
    piece = SECRET[start : start + 8]
    made = redactor(SECRET)
    assert piece not in made.redact(f"({piece})")
    assert quote(piece, safe="") not in made.redact(f"<{quote(piece, safe='')}>")
    assert piece.encode().hex() not in made.redact(f"0x{piece.encode().hex()}g")
    for before in ("", "?", "??"):
        encoded = in_base64(piece, before)
        assert encoded not in made.redact(f"[{encoded}]")


@given(st.text(min_size=16, max_size=80), st.integers(0, 72), st.text(max_size=20))
def test_any_piece_of_any_secret_is_removed(value, start, around):
    piece = value[start : start + 8]
    shown = redactor(value).redact(f"{around}{piece}{around}")
    # Words in lower case, with what stands between words.
    ordinary = re.sub(r"[-_. /:]", "", piece).isalnum() and piece == piece.lower()
    if len(piece) == 8 and len(value.strip()) >= 8 and not ordinary:
        assert "***" in shown


@given(st.text(max_size=200))
def test_redacting_never_fails_and_is_idempotent(text):
    made = redactor(SECRET, "pass-wörter sind lang")
    once = made.redact(text)
    assert made.redact(once) == once


def test_a_secret_beyond_ascii_is_removed_too():
    secret = "Paßwort-für-Jörg-9"
    made = redactor(secret)
    for text in (quote(secret), json.dumps(secret), in_base64(secret)):
        assert "***" in made.redact(f"a {text} b")
    assert "***" in made.redact(secret.encode().hex())


def test_ordinary_text_stays_as_it_is():
    made = redactor(SECRET, "correct-horse-battery-staple", "20261129")
    for text in (
        "session.ready agent=3.3.5068.0 session=alice-0123456789abcdef0",
        "arn:aws:iam::123456789012:role/Correct the horse",
        "a battery is no horse, and 50% of %41 is \\x41 &amp; more",
        "short",
        "",
    ):
        assert made.redact(text) == text


def test_words_of_a_secret_are_no_secret_but_all_of_it_is():
    made = redactor("correct-horse-battery-staple")
    assert made.redact("battery-") == "battery-"
    assert made.redact("correct-horse-battery") == "***"
    assert made.redact("it: correct-horse-battery-staple") == "it: ***"


def test_a_short_secret_is_removed_as_a_whole_only():
    made = redactor("Secret-9")
    assert made.redact("x Secret-9 y Secret-8") == "x *** y Secret-8"
    assert made.redact("Secret-") == "Secret-"


def test_a_very_short_secret_would_be_an_ordinary_word():
    made = redactor("test", " word \n")
    assert len(made) == 0
    assert made.redact("a test of a word") == "a test of a word"


def test_neighbours_get_one_mark():
    made = redactor(SECRET)
    assert made.redact(SECRET + SECRET) == "***"


def test_a_password_in_an_address_and_a_signature_need_not_be_known():
    made = Redactor()
    text = "http://me:word@proxy:3128 and Signature=" + "a1" * 32
    assert made.redact(text) == "http://***@proxy:3128 and Signature=***"


def test_secrets_used_longest_ago_are_forgotten(monkeypatch):
    monkeypatch.setattr(redaction, "VALUES_LIMIT", 2)
    first, second, third = (f"{word}-Q7x9" * 3 for word in ("one", "two", "six"))
    made = redactor(first, second, first, third)
    assert len(made) == 2
    assert made.redact(second) == second
    assert made.redact(f"{first}, {third}") == "***, ***"


def test_memory_is_bounded(monkeypatch):
    monkeypatch.setattr(redaction, "TOTAL_LIMIT", 1000)
    made = redactor(*(f"{n:04}Qx/" * 20 for n in range(100)))
    assert len(made) <= 1000 // 140
    kept = sum(len(value) for value in made._own.values)
    assert made._own.size == kept <= 1000
    assert len(made._index) <= 1000 / 4 + len(made)
    made.register("y" * 100_000)
    assert len(made) == 0
    assert not made._index


def test_tokens_of_sessions_push_out_each_other_and_nothing_else(monkeypatch):
    monkeypatch.setattr(redaction, "TOTAL_LIMIT", 1000)
    made = redactor(SECRET)
    tokens = [f"{number:04}Qx/" * 40 for number in range(100)]
    for token in tokens:
        made.register(token, is_token=True)
    assert made.redact(f"{SECRET}, {tokens[-1]}") == "***, ***"
    assert made.redact(tokens[0]) == tokens[0]
    made.register(tokens[-1])
    made.register("y" * 990, is_token=True)
    assert made.redact(tokens[-1]) == "***", "it is known as both"


def test_secrets_that_are_alike_are_looked_for_a_few_at_a_time():
    made = redactor(*("a" * (100 + n) for n in range(200)), SECRET)
    assert max(map(len, made._index.values())) == redaction.ALIKE_LIMIT
    assert made.redact(f"{'a' * 300} {SECRET}") == "*** ***"


def test_short_secrets_that_begin_alike_are_all_looked_for():
    long = [f"Passw0rd{n:02}{SECRET}" for n in range(redaction.ALIKE_LIMIT)]
    short = [f"Passw0rd-{n:02}" for n in range(2 * redaction.ALIKE_LIMIT)]
    made = redactor(*long, *short)
    for value in short:
        assert made.redact(f"it is {value}!") == "it is ***!"


def test_results_are_remembered_until_there_is_another_secret(monkeypatch):
    monkeypatch.setattr(redaction, "CACHED_TEXTS", 2)
    made = Redactor()
    for text in (SECRET, "one text", "another text", SECRET):
        assert made.redact(text) == text
    assert len(made._results) == 2
    made.register(SECRET)
    assert made.redact(SECRET) == "***"


def test_a_document_is_redacted_wherever_it_has_text():
    value = "Zq8-" * 8
    Secret(value)
    document = {"a": [f"<{value}>", 1, None], "b": {"c": (value, True)}}
    assert redact_document(document) == {
        "a": ["<***>", 1, None],
        "b": {"c": ("***", True)},
    }
    assert redact(f"x{value}") == "x***"


def test_an_environment_shows_its_secrets_by_the_names_of_its_variables():
    value = "Wn4+" * 8
    names = ("AWS_SESSION_TOKEN", "AWS_SECRET_ACCESS_KEY", "PGPASSWORD", "MYSQL_PWD")
    redaction.register_environment(
        {f"{name}": f"{value}{name}" for name in names}
        | {"https_proxy": "http://me:Sprich%20Freund9@proxy:3128"}
        | {"AWS_WEB_IDENTITY_TOKEN_FILE": "/var/run/secrets/eks/serviceaccount"}
    )
    for name in names:
        assert redact(f"x {value}{name}") == "x ***"
    assert redact("it was Sprich Freund9, or Sprich+Freund9") == "it was ***, or ***"
    assert redact("/var/run/secrets/eks") == "/var/run/secrets/eks"


def test_whatever_may_be_a_secret_in_an_answer_is_one():
    answer = json.dumps(
        {
            "Version": "Qx9w" * 10,
            "AccessKeyId": "AKIAIOSFODNN7EXAMPLE",
            "Token": ["zT8/" * 20],
            "Expiration": "2100-01-01T00:00:00Z",
            "Short": "Qq7/zz",
        }
    )
    register_answer(answer.replace("/", "\\/").encode())
    for secret in ("Qx9w" * 10, "zT8/" * 20):
        assert redact(f"version '{secret}' is none") == "version '***' is none"
    for word in ("AKIAIOSFODNN7EXAMPLE", "2100-01-01T00:00:00Z", "Qq7/zz"):
        assert redact(word) == word


def test_of_an_answer_only_so_much_is_registered(monkeypatch):
    found = []
    monkeypatch.setattr(redaction, "register", found.append)
    register_answer(b" ".join(b"%032d" % number for number in range(9999)))
    assert len(found) == redaction.ANSWER_LIMIT
