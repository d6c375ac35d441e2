"""The boundary: whatever is raised behind it is one of our errors in front of it."""

import asyncio
import json
from contextvars import copy_context

import pytest

from ssmtunneld.aws.api import boundary
from ssmtunneld.aws.api.boundary import contained, note_defect, unusable, words_of
from ssmtunneld.aws.api.endpoints import SettingError, check_endpoint
from ssmtunneld.base.compartment import Defects
from ssmtunneld.errors import AccessDenied, AwsError, ServiceUnavailable


@pytest.fixture
def log(monkeypatch):
    """Collect what is logged here."""
    lines = []

    class Log:
        def error(self, event, **facts):
            lines.append((event, facts))

    monkeypatch.setattr(boundary, "get_log", Log)
    return lines


def explain(error):
    return unusable("StartSession", error)


def test_a_result_passes():
    assert contained(lambda: 5, explain) == 5


def test_our_own_errors_pass_as_they_are():
    refusal = AccessDenied("StartSession", "AccessDenied", "no")

    def work():
        raise refusal

    with pytest.raises(AccessDenied) as caught:
        contained(work, explain)
    assert caught.value is refusal


@pytest.mark.parametrize(
    "error",
    [
        TypeError("canary"),
        RecursionError("canary"),
        KeyError("canary"),
        ValueError("Invalid header value b'canary\\r'"),
        UnicodeEncodeError("ascii", "canary", 0, 1, "canary"),
        MemoryError("canary"),
        AssertionError("canary"),
    ],
)
def test_any_other_is_an_error_that_quotes_nothing(error, log):
    def work():
        raise error

    with pytest.raises(AwsError) as caught:
        contained(work, explain)
    refusal = caught.value
    assert type(refusal) is ServiceUnavailable
    assert (refusal.operation, refusal.code) == ("StartSession", "UnusableAnswer")
    assert type(error).__name__ in refusal.message
    assert "canary" not in str(refusal)
    assert refusal.advice
    assert refusal.__context__ is None
    assert refusal.__cause__ is None
    # It was raised here, in a test, which is no code of the package.
    assert log == []


def test_where_our_own_code_tripped_is_logged_without_values(log):
    with pytest.raises(AwsError, match="AttributeError"):
        contained(lambda: note_defect(5), explain)
    ((event, facts),) = log
    assert event == "defect"
    assert (facts["compartment"], facts["kind"]) == ("aws", "AttributeError")
    assert facts["place"].startswith("base/compartment.py:")
    assert "int" not in " ".join(facts.values())


def test_what_a_setting_is_to_blame_for_is_no_defect(log):
    with pytest.raises(SettingError) as caught:
        check_endpoint("nowhere", "endpoint_url")
    note_defect(caught.value)
    assert log == []


def test_what_others_tripped_over_is_their_answer(log):
    with pytest.raises(json.JSONDecodeError) as caught:
        json.loads("canary")
    note_defect(caught.value)
    note_defect(ValueError("never raised"))
    assert log == []


def test_words_are_the_systems_or_ours():
    assert words_of(SettingError("x is not a proxy")) == "x is not a proxy"
    missing = FileNotFoundError(2, "No such file or directory", "/opt/helper")
    assert words_of(missing) == "No such file or directory: /opt/helper"
    assert words_of(ConnectionResetError(104, "Connection reset")) == "Connection reset"
    assert "canary" not in words_of(OSError("canary"))


async def test_it_counts_as_one_of_the_tunnel_that_asks(log):
    class Ours:
        error = staticmethod(lambda event, **facts: log.append((event, facts)))

    def call():
        contained(lambda: note_defect(5), explain)

    defects = Defects(Ours)
    around = []

    async def work():
        around.append(copy_context())

    await defects.attempt("session", work)
    with pytest.raises(AwsError):
        await asyncio.to_thread(around[0].run, call)
    (status,) = defects.snapshot(asyncio.get_running_loop().time())
    assert (status.compartment, status.count) == ("aws", 1)
    assert 0 <= status.age < 3600
    assert [event for event, _ in log] == ["defect"]
