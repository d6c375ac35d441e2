"""Every row of causes and cures, as log, status and doctor show it."""

from random import Random

import pytest
from botocore.exceptions import ClientError

from ssmtunneld.aws.api.causes import CODES, EXCEPTIONS
from ssmtunneld.aws.api.errors import CallContext, translate
from ssmtunneld.base.foreign import clean
from ssmtunneld.doctor import walk
from ssmtunneld.doctor.report import Broken, Verdict
from ssmtunneld.errors import (
    ChannelClosed,
    NoSessionReady,
    Recovery,
    SessionGone,
    Throttled,
)
from ssmtunneld.sessions.backoff import Persistence, passes
from ssmtunneld.sessions.pool import no_session
from tests.sessions.rig import living_pool
from tests.support.clockwork import virtual
from tests.support.fake_control import START, elapse

DURING = CallContext(
    "StartSession",
    "eu-west-1",
    renewal="run: aws sso login",
    profile="prod",
    target="i-0182d91e85d69cf00",
    document="Acme-Db",
)


def error_of_code(code):
    answer = {
        "Error": {"Code": code, "Message": "no"},
        "ResponseMetadata": {"HTTPStatusCode": 400},
    }
    return translate(ClientError(answer, "StartSession"), DURING)


def error_of_exception(name):
    # As botocore has it, by its name: older ones lack some of them.
    cause = EXCEPTIONS[name][-1]
    kind = type(name, (Exception,), {})
    found = translate(kind("it did not work"), DURING)
    assert type(found) is cause.kind
    return found


ROWS = [
    *(pytest.param(error_of_code, code, id=code) for code in sorted(CODES)),
    *(pytest.param(error_of_exception, n, id=f"{n}()") for n in sorted(EXCEPTIONS)),
]


@virtual
@pytest.mark.parametrize(("make", "name"), ROWS)
async def test_a_row_is_in_log_and_status_with_its_cure(make, name):
    error = make(name)
    async with living_pool() as rig:
        rig.control.fail(START, error)
        await elapse(1)
        line = rig.journal.lines("session.ended")[0]
        assert (line["reason"], line["advice"]) == (str(error), error.advice)
        trouble = rig.pool.snapshot().trouble
        assert trouble is not None
        assert (str(trouble), trouble.advice) == (str(error), error.advice)
        with pytest.raises(NoSessionReady) as refused:
            await rig.pool.open_stream(0.5)
        assert refused.value.advice == error.advice
        rig.control.heal()
    assert error.advice


@pytest.mark.parametrize(("make", "name"), ROWS)
async def test_a_row_is_a_finding_of_the_doctor_with_its_cure(make, name):
    error = make(name)

    async def look():
        raise Broken.by(error)

    found = await walk._look("permission", look)
    assert found.verdict is Verdict.FAIL
    assert name in found.text or EXCEPTIONS.get(name, CODES.get(name))[-1].code
    assert found.cure == error.advice != ""


async def test_the_doctor_never_says_fail_without_a_cure():
    async def look():
        raise Broken("it is broken")

    assert (await walk._look("agent", look)).cure


@virtual
@pytest.mark.parametrize(("make", "name"), ROWS)
async def test_only_what_may_pass_is_waited_out(make, name):
    error = make(name)
    again = await Persistence(Random(1), float("inf")).pause(error)
    assert again == passes(error)
    if passes(error):
        assert "{" not in error.advice
        assert error.recovery is not Recovery.STOP


def test_an_account_without_calls_left_passes_and_one_without_sessions_does_not():
    assert passes(error_of_code("ThrottlingException"))
    quota = error_of_code("ServiceQuotaExceededException")
    assert isinstance(quota, Throttled)
    assert not passes(quota)


@pytest.mark.parametrize(
    "error",
    [
        ChannelClosed(),
        SessionGone("s-1", clean("the service gave no new token")),
        no_session(15.0, None, in_use=True),
        no_session(15.0, None, in_use=False),
    ],
    ids=lambda error: str(error)[:30],
)
def test_what_no_service_says_has_a_cure_too(error):
    assert error.advice
