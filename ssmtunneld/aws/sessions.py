"""Sessions as the account knows them: active and past ones, and whoever started them.

``SessionHistory`` is for commands: it blocks, and must be called where no loop runs,
or in a thread. The rest reads answers, for ``ssm.py`` as well.
"""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from ssmtunneld.aws.api.answers import SESSION_ID
from ssmtunneld.aws.api.boundary import contained, unusable
from ssmtunneld.aws.api.endpoints import is_loopback_host
from ssmtunneld.aws.api.pages import turn_pages
from ssmtunneld.aws.api.port import ActiveSession
from ssmtunneld.base.record import Record
from ssmtunneld.errors import SessionGone, Throttled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ssmtunneld.aws.api.answers import Answer
    from ssmtunneld.aws.client import AwsClient

# Of 200 sessions each, DescribeSessions' maximum: a bound against endless answers.
_PAGE_LIMIT: Final = 50
_PAGE_SIZE: Final = 200

_RETRY_DELAYS: Final = (1.0, 2.0, 4.0)
"""Seconds to wait after the first, second and third answer that it was too often: a
list of many pages can use up what the account has per second, but not for long."""

_STS_VARIABLES: Final = ("AWS_ENDPOINT_URL_STS", "AWS_ENDPOINT_URL")


class Entry(Record):
    """A session in the list: one that lives, or one of the last 30 days."""

    session: ActiveSession
    ended_at: float = 0.0
    """Unix time in seconds; 0 if it lives, or if the service did not say."""


class Query(Record):
    """A filter of sessions."""

    limit: int
    """At most so many."""
    past: bool = False
    """Those that have ended, instead of those that live."""
    owner: str | None = None
    """Only those of this ARN."""
    target: str | None = None
    """Only those to this target."""
    session_id: str | None = None
    """Only this one."""

    def parameters(self) -> dict[str, object]:
        """Return what DescribeSessions is asked."""
        chosen = {
            "Owner": self.owner,
            "Target": self.target,
            "SessionId": self.session_id,
        }
        asked: dict[str, object] = {"State": "History" if self.past else "Active"}
        filters = [{"key": k, "value": v} for k, v in chosen.items() if v is not None]
        return asked | ({"Filters": filters} if filters else {})


class SessionHistory:
    """The sessions of the account and region of one identity.

    Args:
        account: Who asks, and where; closed by ``close``.
        pause: Waits for so many seconds, after the service has said: too often.
    """

    def __init__(self, account: AwsClient, pause: Callable[[float], None]) -> None:
        self._account = account
        self._pause = pause
        self._caller: str | None = None

    @property
    def region(self) -> str:
        """Region of the sessions; empty before the first answer."""
        place = self._account.place
        return "" if place is None else place.region

    def caller(self) -> str:
        """Return the identity's ARN; empty where there is no STS: at an emulator.

        Raises:
            AwsError: It cannot be determined.
        """
        if self._caller is None:
            self._caller = self._ask_sts()
        return self._caller

    def search(
        self, query: Query, keep: Callable[[ActiveSession], bool]
    ) -> tuple[list[Entry], bool]:
        """Return the sessions that match, and whether there could be more.

        Args:
            query: What the service is asked for.
            keep: Which of them are wanted.

        Raises:
            AwsError: The service said no, or could not be asked.
        """
        return contained(
            lambda: self._search(query, keep), partial(unusable, "DescribeSessions")
        )

    def _search(
        self, query: Query, keep: Callable[[ActiveSession], bool]
    ) -> tuple[list[Entry], bool]:
        found: list[Entry] = []
        for page, is_last in pages(self._call, query.parameters()):
            found += [e for e in map(read_entry, page) if keep(e.session)]
            if len(found) > query.limit:
                break
            if is_last:
                return found, False
        return found[: query.limit], True

    def find(self, session_id: str) -> ActiveSession | None:
        """Return the session that lives and has this id; None if there is none.

        Raises:
            AwsError: The service said no, or could not be asked.
        """
        query = Query(limit=1, session_id=session_id)
        found, _ = self.search(query, lambda session: session.session_id == session_id)
        return found[0].session if found else None

    def terminate(self, session_id: str) -> bool:
        """End a session; say whether there was anything to end.

        Raises:
            AwsError: The service said no, or could not be asked.
        """
        try:
            self._call("TerminateSession", SessionId=session_id)
        except SessionGone:
            return False
        return True

    def close(self) -> None:
        """Close the connections; idempotent."""
        self._account.close()

    def _ask_sts(self) -> str:
        _, place = self._account.keys("GetCallerIdentity")
        host = urlsplit(place.ssm_endpoint).hostname or ""
        # The service would be asked about an emulator's keys, which it does not know.
        if is_loopback_host(host) and not any(map(os.environ.get, _STS_VARIABLES)):
            return ""
        return self._account.call_service("sts", "GetCallerIdentity").text("Arn")

    def _call(self, operation: str, /, **parameters: object) -> Answer:
        for delay in _RETRY_DELAYS:
            try:
                return self._account.call(operation, **parameters)
            except Throttled:
                self._pause(delay)
        return self._account.call(operation, **parameters)


def pages(
    call: Callable[..., Answer], query: dict[str, object]
) -> Iterator[tuple[list[Answer], bool]]:
    """Yield the pages of DescribeSessions, each with True if it is the last one.

    It ends after 50 pages even if there are more.

    Args:
        call: Makes a call.
        query: What is asked.

    Raises:
        AwsError: ``call`` did.
    """
    for answer, is_last in turn_pages(
        lambda **asked: call("DescribeSessions", **asked),
        {"MaxResults": _PAGE_SIZE, **query},
        limit=_PAGE_LIMIT,
    ):
        yield answer.structures("Sessions"), is_last


def read_entry(answer: Answer) -> Entry:
    """Return a session in an answer, with its end."""
    return Entry(read_session(answer), answer.moment("EndDate"))


def read_session(answer: Answer) -> ActiveSession:
    """Return a session in an answer; what is missing is empty."""
    minutes = answer.text("MaxSessionDuration")
    is_number = minutes.isascii() and minutes.isdecimal() and len(minutes) < 10
    return ActiveSession(
        session_id=answer.matching("SessionId", SESSION_ID),
        target=answer.text("Target"),
        owner=answer.text("Owner"),
        reason=answer.text("Reason"),
        status=answer.text("Status"),
        document=answer.text("DocumentName"),
        started_at=answer.moment("StartDate"),
        max_duration=int(minutes) * 60.0 if is_number else None,
    )
