"""Lists of an account's sessions, read page by page, and calls on one session."""

import pytest

from ssmtunneld.aws.api.answers import Answer
from ssmtunneld.aws.api.port import ActiveSession
from ssmtunneld.aws.client import AwsClient
from ssmtunneld.aws.sessions import Entry, Query, SessionHistory, pages, read_entry
from ssmtunneld.errors import AccessDenied, CredentialsUnusable, Throttled
from tests.aws.stub import REGION, error

ARN = "arn:aws:sts::111122223333:assumed-role/Admin/alice"
WHO = f"""\
<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
<GetCallerIdentityResult><Arn>{ARN}</Arn></GetCallerIdentityResult>
</GetCallerIdentityResponse>"""


@pytest.fixture
def waits():
    """Collect the ledger's waits, in seconds."""
    return []


@pytest.fixture
def ledger(identity, keys, waits):
    ledger = SessionHistory(AwsClient(identity), waits.append)
    yield ledger
    ledger.close()


def listed(*numbers, **more):
    return {"Sessions": [{"SessionId": f"s-{n}"} for n in numbers], **more}


def every(_):
    return True


def ids(entries):
    return [entry.session.session_id for entry in entries]


def test_all_that_the_query_says_is_asked(ledger, stub):
    stub.answer("DescribeSessions", listed(1))
    query = Query(9, past=True, owner=ARN, target="i-1", session_id="s-1")
    found, more = ledger.search(query, every)
    assert (ids(found), more, ledger.region) == (["s-1"], False, REGION)
    assert stub.calls("DescribeSessions") == [
        {
            "State": "History",
            "MaxResults": 200,
            "Filters": [
                {"key": "Owner", "value": ARN},
                {"key": "Target", "value": "i-1"},
                {"key": "SessionId", "value": "s-1"},
            ],
        }
    ]


def test_the_region_is_not_known_before_the_first_answer(ledger):
    assert ledger.region == ""


def test_pages_are_read_until_there_is_enough_of_what_is_wanted(ledger, stub):
    stub.answer(
        "DescribeSessions",
        listed(1, 2, NextToken="a"),
        listed(3, 4, NextToken="b"),
        listed(5, 6, NextToken="c"),
    )
    odd = ("s-1", "s-3", "s-5")
    found, more = ledger.search(Query(2), lambda session: session.session_id in odd)
    assert (ids(found), more) == (["s-1", "s-3"], True)
    asked = [body.get("NextToken") for body in stub.calls("DescribeSessions")]
    assert asked == [None, "a", "b"]


@pytest.mark.parametrize(("limit", "more"), [(2, True), (3, False)])
def test_a_limit_that_is_reached_exactly_hides_nothing(ledger, stub, limit, more):
    stub.answer("DescribeSessions", listed(1, 2, 3))
    found, rest = ledger.search(Query(limit), every)
    assert (len(found), rest) == (limit, more)


def test_a_list_without_end_is_cut(ledger, stub):
    stub.answer("DescribeSessions", listed(1, NextToken="more"))
    found, more = ledger.search(Query(1000), every)
    assert (len(found), more) == (50, True)


def test_an_answer_without_a_list_is_an_empty_page():
    assert list(pages(lambda *_, **__: Answer({}), {})) == [([], True)]


def test_what_came_too_often_is_asked_again_and_then_given_up(ledger, stub, waits):
    throttled = error("ThrottlingException", "Rate exceeded")
    stub.answer("DescribeSessions", throttled, throttled, listed(1))
    assert ids(ledger.search(Query(1), every)[0]) == ["s-1"]
    assert waits == [1.0, 2.0]
    stub.answer("DescribeSessions", throttled)
    with pytest.raises(Throttled):
        ledger.search(Query(1), every)
    assert waits == [1.0, 2.0, 1.0, 2.0, 4.0]


def test_one_session_is_found_by_its_id_only(ledger, stub):
    stub.answer("DescribeSessions", listed(1))
    assert ledger.find("s-1").session_id == "s-1"
    # Should a service ever take the id for the beginning of one.
    assert ledger.find("s-") is None


def test_a_session_is_terminated_once(ledger, stub):
    gone = error("DoesNotExistException", "no such session")
    stub.answer("TerminateSession", {}, gone, error("AccessDeniedException"))
    assert ledger.terminate("s-1") is True
    assert ledger.terminate("s-1") is False
    with pytest.raises(AccessDenied) as caught:
        ledger.terminate("s-1")
    assert "ssm:TerminateSession" in caught.value.advice
    assert stub.calls("TerminateSession") == [{"SessionId": "s-1"}] * 3


@pytest.mark.parametrize("variable", ["AWS_ENDPOINT_URL_STS", "AWS_ENDPOINT_URL"])
def test_sts_says_once_who_one_is(ledger, stub, monkeypatch, variable):
    from tests.aws.stub import Reply

    monkeypatch.setenv(variable, stub.url)
    stub.answer("GetCallerIdentity", Reply(body=WHO))
    assert ledger.caller() == ledger.caller() == ARN
    assert len(stub.calls("GetCallerIdentity")) == 1


def test_an_emulator_is_not_asked_who_one_is(ledger, stub):
    assert ledger.caller() == ""
    assert stub.asked == []


def test_without_a_profile_nobody_is_anybody(identity, aws_files, monkeypatch):
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    ledger = SessionHistory(AwsClient(identity), lambda _: None)
    with pytest.raises(CredentialsUnusable):
        ledger.caller()


def test_an_entry_is_read_with_its_end(ledger, stub):
    stub.answer(
        "DescribeSessions",
        {
            "Sessions": [
                {
                    "SessionId": "s-1",
                    "Target": "i-1",
                    "Status": "Terminated",
                    "StartDate": 1735787045.5,
                    "EndDate": 1735787050.0,
                    "DocumentName": "D",
                    "Owner": ARN,
                    "Reason": "r",
                    "MaxSessionDuration": "60",
                }
            ]
        },
    )
    found, _ = ledger.search(Query(1, past=True), every)
    session = ActiveSession(
        "s-1", "i-1", ARN, "r", "Terminated", "D", 1735787045.5, 3600.0
    )
    assert found == [Entry(session, 1735787050.0)]


def test_what_an_answer_lacks_is_empty():
    assert read_entry(Answer({"SessionId": 5})) == Entry(
        ActiveSession("", "", "", "", "", "", 0.0, None), 0.0
    )
