"""Just-in-time node access: requests, approvals, and the keys that follow.

What AWS's documents leave open is guessed, and docs/emulator.md says so.
"""

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from aiohttp import web

from ssmtunneld.emulator.api import ApiError, Body, CallerOperation
from ssmtunneld.emulator.callers import Caller
from ssmtunneld.emulator.permissions import Permissions, asked_targets, target_arn
from ssmtunneld.emulator.registry import Registry
from ssmtunneld.emulator.settings import EmulatorSettings

LIMIT: Final = 1000
"""Requests that are remembered; the oldest is forgotten first."""
TOKEN_LIFETIME: Final = timedelta(hours=1)
"""Time for which keys work, at most; an approval can last longer."""
ROLE: Final = "SSM-JustInTimeAccessTokenRole"
"""The role of whoever has such keys, as AWS calls it."""
_LONGEST_REASON: Final = 256


class Decision(StrEnum):
    """The decisions about a request."""

    APPROVE = "approve"
    REJECT = "reject"
    REVOKE = "revoke"
    EXPIRE = "expire"


_STATUSES: Final = {
    Decision.APPROVE: "Approved",
    Decision.REJECT: "Rejected",
    Decision.REVOKE: "Revoked",
    Decision.EXPIRE: "Expired",
}


@dataclass(slots=True)
class _Request:
    id: str
    target: str
    reason: str
    owner: str
    asked_at: datetime
    access_key: str
    token: str
    decision: Decision | None = None
    ends_at: datetime | None = None
    """End of what was approved."""
    keys_end_at: datetime | None = None
    """End of the keys that were given out; None if none were."""


class AccessRequests:
    """All requests, and whoever has keys because of one.

    Args:
        settings: What becomes of requests, and the clock.
        permissions: Where those who have keys get their policy.
        registry: Which nodes exist.
        issued: Gets the ARNs of those who have keys, by access key.
    """

    def __init__(
        self,
        settings: EmulatorSettings,
        permissions: Permissions,
        registry: Registry,
        issued: dict[str, str],
    ) -> None:
        self._settings = settings
        self._permissions = permissions
        self._registry = registry
        self._issued = issued
        self._requests: dict[str, _Request] = {}
        self._by_key: dict[str, _Request] = {}
        self.operations: dict[str, CallerOperation] = {
            "StartAccessRequest": self._start,
            "GetAccessToken": self._get_token,
        }
        """Operations that it adds to the API."""

    def routes(self, path: str) -> list[web.RouteDef]:
        """Return what to add to an application, below ``path``."""
        return [web.post(f"{path}/access/{{id}}/{{decision}}", self._post_decision)]

    def state(self) -> list[dict[str, Any]]:
        """Return all requests, the oldest first, without any key."""
        return [self._describe(request) for request in self._requests.values()]

    def decide(self, decision: Decision, request_id: str | None = None) -> str:
        """Decide about a request, or about the latest one; return its id.

        Raises:
            KeyError: There is no such request.
        """
        if request_id is None:
            request_id = next(reversed(self._requests), "")
        request = self._requests[request_id]
        request.decision = decision
        if decision is Decision.APPROVE:
            request.ends_at = self._now() + self._duration
        return request_id

    def check(self, caller: Caller, headers: Mapping[str, str]) -> None:
        """Let whoever has keys because of a request call only while they are good.

        Raises:
            ApiError: They are not any more, or came without their token.
        """
        request = self._by_key.get(caller.key)
        if request is None:
            return
        if headers.get("X-Amz-Security-Token") != request.token:
            raise ApiError("UnrecognizedClientException", "The token is invalid.")
        if request.keys_end_at is None or self._now() >= request.keys_end_at:
            raise ApiError("ExpiredTokenException")
        if self._status(request) == "Revoked":
            raise ApiError("AccessDeniedException", "The access was revoked.")

    async def _start(self, body: Body, caller: Caller) -> Body:
        reason = body.get("Reason")
        if not isinstance(reason, str) or not 1 <= len(reason) <= _LONGEST_REASON:
            raise ApiError(
                "ValidationException", "Reason must have 1 to 256 characters"
            )
        targets = asked_targets(body)
        if len(targets) != 1:
            raise ApiError("ValidationException", "Targets must name one node")
        if targets[0] not in self._registry.nodes(targets):
            raise ApiError("ResourceNotFoundException", f"{targets[0]} does not exist")
        request = self._make(targets[0], reason, caller)
        return {"AccessRequestId": request.id}

    def _make(self, target: str, reason: str, caller: Caller) -> _Request:
        request = _Request(
            f"oi-{secrets.token_hex(6)}",
            target,
            reason,
            caller.arn,
            self._now(),
            f"ASIA{secrets.token_hex(8).upper()}",
            f"emulated-session-token-{secrets.token_urlsafe(48)}",
        )
        self._requests[request.id] = self._by_key[request.access_key] = request
        arn = f"arn:{caller.partition}:sts::{caller.account}:assumed-role/{ROLE}"
        self._issued[request.access_key] = f"{arn}/{caller.name}"
        self._permissions.set(request.access_key, _policy(target, caller))
        while len(self._requests) > LIMIT:
            oldest = self._requests.pop(next(iter(self._requests)))
            del self._by_key[oldest.access_key], self._issued[oldest.access_key]
            self._permissions.forget(oldest.access_key)
        return request

    async def _get_token(self, body: Body, _caller: Caller) -> Body:
        request = self._requests.get(str(body.get("AccessRequestId")))
        if request is None:
            raise ApiError("ResourceNotFoundException", "There is no such request.")
        status = self._status(request)
        if status != "Approved":
            return {"AccessRequestStatus": status}
        assert request.ends_at is not None, "approved for a time"
        request.keys_end_at = min(self._now() + TOKEN_LIFETIME, request.ends_at)
        secret = self._settings.secret_key
        return {
            "AccessRequestStatus": status,
            "Credentials": {
                "AccessKeyId": request.access_key,
                "SecretAccessKey": "emulator" if secret is None else secret.reveal(),
                "SessionToken": request.token,
                "ExpirationTime": request.keys_end_at.timestamp(),
            },
        }

    def _status(self, request: _Request) -> str:
        if request.decision is None:
            self._decide_alone(request)
        if request.decision is None:
            return "Pending"
        if request.ends_at is not None and self._now() >= request.ends_at:
            return "Expired"
        return _STATUSES[request.decision]

    def _decide_alone(self, request: _Request) -> None:
        """Do with a request what the settings say."""
        match self._settings.approval:
            case "manual":
                return
            case "reject":
                request.decision = Decision.REJECT
                return
            case "auto":
                approved_at = request.asked_at
            case seconds:
                approved_at = request.asked_at + timedelta(seconds=seconds)
        if self._now() >= approved_at:
            request.decision = Decision.APPROVE
            request.ends_at = approved_at + self._duration

    @property
    def _duration(self) -> timedelta:
        return timedelta(seconds=self._settings.access_duration)

    @property
    def _now(self) -> Callable[[], datetime]:
        return self._settings.wall_clock

    def _describe(self, request: _Request) -> dict[str, Any]:
        return {
            "id": request.id,
            "target": request.target,
            "reason": request.reason,
            "owner": request.owner,
            "status": self._status(request),
        }

    async def _post_decision(self, request: web.Request) -> web.Response:
        request_id, name = request.match_info["id"], request.match_info["decision"]
        if request_id not in self._requests or name not in tuple(Decision):
            problem = {"error": "no such access request or decision"}
            return web.json_response(problem, status=404)
        self.decide(Decision(name), request_id)
        return web.json_response(self._describe(self._requests[request_id]))


def _policy(target: str, caller: Caller) -> dict[str, Any]:
    """Return what the keys of a request allow: sessions to one node.

    AWS's own policy names few documents; see docs/tasks/access.md.
    """
    arn = f"arn:{caller.partition}:ssm:*:*"
    statements = [
        (["ssm:StartSession"], [target_arn(target, caller), f"{arn}:document/*"]),
        (
            [
                "ssm:ResumeSession",
                "ssm:TerminateSession",
                "ssmmessages:OpenDataChannel",
            ],
            [f"{arn}:session/*"],
        ),
    ]
    return {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Action": actions, "Resource": resources}
            for actions, resources in statements
        ],
    }
