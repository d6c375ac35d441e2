"""Answers are read with their types, cleaned, and never trusted."""

import re
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssmtunneld.aws.api import answers
from ssmtunneld.aws.api.answers import ITEM_LIMIT, Answer
from ssmtunneld.base.foreign import MESSAGE_LIMIT

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.binary()
    | st.datetimes(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
PATTERNS = [
    answers.SESSION_ID,
    answers.TOKEN,
    answers.STREAM_URL,
    answers.INSTANCE_ID,
    answers.NODE_ID,
    answers.TASK_PART,
    answers.PAGE_TOKEN,
    answers.PASSWORD,
]


@given(VALUES, st.sampled_from(PATTERNS))
def test_reading_never_raises_and_has_its_type(value, pattern):
    for answer in (Answer(value), Answer({"Field": value})):
        shown = answer.text("Field")
        assert len(shown) <= MESSAGE_LIMIT
        assert not shown or shown.isprintable()
        found = answer.matching("Field", pattern)
        assert found == "" or (pattern.fullmatch(found) and found == value)
        assert isinstance(answer.moment("Field"), float)
        assert isinstance(answer.is_true("Field"), bool)
        assert isinstance(answer.has("Field"), bool)
        assert type(answer.number("Field")) is int
        assert all(map(pattern.fullmatch, answer.names(pattern)))
        assert isinstance(answer.structure("Field"), Answer)
        assert all(isinstance(a, Answer) for a in answer.structures("Field"))
        assert all(isinstance(t, str) for t in answer.texts("Field"))


def test_what_is_right_is_read():
    moment = datetime(2026, 1, 2, tzinfo=UTC)
    answer = Answer(
        {
            "Name": "web\x1b[31m-1\n",
            "At": moment,
            "Yes": True,
            "Port": 5432,
            "None": [],
            "In": {"Name": "inner"},
            "Many": [{"Name": "a"}, None, {"Name": "b"}],
            "Names": ["a", 5, "b"],
        }
    )
    assert answer.text("Name") == "web -1"
    assert answer.moment("At") == moment.timestamp()
    assert answer.is_true("Yes")
    assert (answer.number("Port"), answer.number("Yes"), answer.number("Name")) == (
        5432,
        0,
        0,
    )
    assert answer.has("Port")
    assert not answer.has("None")
    assert not answer.has("Absent")
    assert answer.structure("In").text("Name") == "inner"
    assert [a.text("Name") for a in answer.structures("Many")] == ["a", "b"]
    assert answer.texts("Names") == ["a", "b"]


def test_names_of_fields_are_chosen_by_a_pattern_and_sorted():
    answer = Answer({"BrokerTls": "a", "Broker": "b", 5: "c", "Other": "d"})
    assert answer.names(re.compile(r"Broker\w*")) == ["Broker", "BrokerTls"]


def test_a_list_is_read_up_to_its_limit():
    assert len(Answer({"Names": ["a"] * (ITEM_LIMIT + 1)}).texts("Names")) == ITEM_LIMIT


def test_a_moment_that_no_clock_shows_is_none():
    assert Answer({"At": datetime.min}).moment("At") == 0.0  # noqa: DTZ901 - no zone


@pytest.mark.parametrize(
    ("pattern", "good", "bad"),
    [
        (
            answers.SESSION_ID,
            [
                "alice-0f1e2d3c4b5a69788",
                "a.b@c=d,e+f_g-0abc",
                "ecs-execute-command-0a1b",
            ],
            ["", "a b", "a\n", "a/../b", "ä", "x" * 97, "a%2f"],
        ),
        (
            answers.TOKEN,
            ["AAEAAc/+=", "t" * 5000],
            ["", "a b", "a\r\n", "é", "t" * 8193],
        ),
        (
            answers.STREAM_URL,
            ["wss://ssmmessages.eu-west-1.amazonaws.com/v1?cell-number=A+/=="],
            ["https://x", "wss://a b", "wss://a\r\nX: y", "wss://" + "a" * 4097],
        ),
        (
            answers.INSTANCE_ID,
            ["i-0182d91e85d69cf00", "i-01234567"],
            ["i-1", "i-0182d91e85d69cf00\n", "mi-0182d91e85d69cf00", "i-0182D91e"],
        ),
        (answers.NODE_ID, ["mi-0182d91e85d69cf00"], ["mi-1", "i-0182d91e85d69cf00"]),
        (answers.TASK_PART, ["0a1b-2c", "f" * 32], ["", "a_b", "a/b", "x" * 129]),
    ],
)
def test_ids_are_those_that_aws_gives(pattern, good, bad):
    for text in good:
        assert Answer({"Id": text}).matching("Id", pattern) == text
    for text in bad:
        assert Answer({"Id": text}).matching("Id", pattern) == ""
