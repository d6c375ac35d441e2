"""The SSM API, AWS JSON 1.1 over ``POST /`` (protocol 1.1 to 1.7)."""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, Final

from aiohttp import web

from ssmtunneld.base.foreign import clean
from ssmtunneld.base.log import EventLog
from ssmtunneld.emulator.callers import Caller, asks_who, caller_of, who
from ssmtunneld.emulator.documents import BUILT_IN, Document, ParameterRefused
from ssmtunneld.emulator.faults import FaultPlan
from ssmtunneld.emulator.instances import (
    Form,
    Instances,
    QueryError,
    error_text,
    read_form,
)
from ssmtunneld.emulator.permissions import DEFAULT_DOCUMENT, Permissions, service_of
from ssmtunneld.emulator.registry import Registry
from ssmtunneld.emulator.session import Session, StartRequest
from ssmtunneld.emulator.settings import EmulatorSettings, Node
from ssmtunneld.emulator.targets import TARGET

Body = dict[str, Any]
Operation = Callable[[Body], Awaitable[Body]]
CallerOperation = Callable[[Body, Caller], Awaitable[Body]]

_PREFIX: Final = "AmazonSSM."
_CONTENT_TYPE: Final = "application/x-amz-json-1.1"
_DOCUMENT_NAME: Final = re.compile(r"[a-zA-Z0-9_\-.:/]{3,128}")
_SHOWN: Final = 100
"""Characters of an operation's name that go into the log."""
_LARGEST_PAGE: Final = 200
_LARGEST_INVENTORY: Final = 50
INVENTORY_TYPE: Final = "AWS:InstanceInformation"
"""The only type of inventory that is kept here; every node has it."""
_COMPARISONS: Final = frozenset({"Equal", "NotEqual", "BeginWith", "Exists"})
_MOST_FILTERS: Final = 6
_LONGEST_FILTER: Final = 400
# The service's model: one line, of 1 to 256 characters.
_REASON: Final = re.compile(r".{1,256}")

_MESSAGES: Final = {
    "AccessDeniedException": "User is not authorized to perform this operation",
    "ExpiredTokenException": "The security token included in the request is expired",
    "ThrottlingException": "Rate exceeded",
    "DoesNotExistException": "The session does not exist",
}
_ALIASES: Final = {"AccessDenied": "AccessDeniedException"}
_EC2_ERRORS: Final = {
    "AccessDeniedException": ("UnauthorizedOperation", 403),
    "ExpiredTokenException": ("RequestExpired", 400),
    "ThrottlingException": ("RequestLimitExceeded", 503),
    "TooManyRequestsException": ("RequestLimitExceeded", 503),
    "InternalServerError": ("InternalError", 500),
    "ServiceUnavailable": ("Unavailable", 503),
}
"""EC2's codes and statuses for errors that Systems Manager calls otherwise."""
_BY_STATUS: Final = {
    401: "UnrecognizedClientException",
    403: "AccessDeniedException",
    429: "TooManyRequestsException",
    500: "InternalServerError",
    503: "ServiceUnavailable",
}


class ApiError(Exception):
    """An answer that is an error: ``__type``, ``Message`` and the HTTP status."""

    def __init__(self, code: str, message: str = "", status: int | None = None) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message or _MESSAGES.get(code, code)
        self.status = status or (500 if code.startswith("Internal") else 400)


def _admit(_caller: Caller, _headers: Mapping[str, str]) -> None:
    """Let everybody call."""


class ControlPlane:
    """Answers the API.

    Args:
        registry: Where sessions are started and found.
        settings: Documents and targets.
        plan: The faults in force.
        stream_url: What a websocket URL begins with, up to the session's id.
        log: Where calls are noted.
        permissions: Who may call what.

    Raises:
        ConfigError: A custom document cannot be read.
    """

    def __init__(
        self,
        registry: Registry,
        settings: EmulatorSettings,
        plan: FaultPlan,
        stream_url: Callable[[], str],
        log: EventLog,
        *,
        permissions: Permissions,
    ) -> None:
        self._permissions = permissions
        self._registry = registry
        self._settings = settings
        self._plan = plan
        self._stream_url = stream_url
        self._log = log
        self._documents = {
            name: Document.parse(name, content)
            for name, content in {**BUILT_IN, **settings.documents}.items()
        }
        self._instances = Instances(settings, registry.nodes, registry.power)
        self._check_caller: Callable[[Caller, Mapping[str, str]], None] = _admit
        self._caller_operations: dict[str, CallerOperation] = {
            "StartSession": self._start_session
        }
        self._operations: dict[str, Operation] = {
            "ResumeSession": self._resume_session,
            "TerminateSession": self._terminate_session,
            "DescribeSessions": self._describe_sessions,
            "GetConnectionStatus": self._get_connection_status,
            "DescribeInstanceInformation": self._describe_instance_information,
            "GetInventory": self._get_inventory,
        }

    @property
    def operations(self) -> frozenset[tuple[str, str]]:
        """Every call that is answered: the service, as boto3 names it, and the call."""
        names = [*self._caller_operations, *self._operations]
        return frozenset(
            {("sts", "GetCallerIdentity")}
            | {("ec2", name) for name in self._instances.actions}
            | {(service_of(name), name.rpartition(".")[2]) for name in names}
        )

    def require(self, check: Callable[[Caller, Mapping[str, str]], None]) -> None:
        """Let only those call who pass ``check``, given their headers.

        It raises ApiError for whoever does not.
        """
        self._check_caller = check

    def offer_with_caller(self, operations: Mapping[str, CallerOperation]) -> None:
        """Answer further calls for which it matters who makes them."""
        self._caller_operations.update(operations)

    def offer(self, operations: Mapping[str, Operation]) -> None:
        """Answer further calls, by their whole names in ``X-Amz-Target``."""
        self._operations.update(operations)

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Answer one call; the aiohttp handler."""
        name = request.headers.get("X-Amz-Target", "").removeprefix(_PREFIX)
        raw = await request.read()
        caller = caller_of(request.headers, self._settings)
        if not name and asks_who(raw):
            return web.Response(text=who(caller), content_type="text/xml")
        if not name and (form := read_form(raw)):
            return self._answer_query(form, caller)
        try:
            self._check_caller(caller, request.headers)
            answer, status = await self._answer(name, _parse(raw), caller), 200
        except ApiError as error:
            answer = {"__type": error.code, "Message": error.message}
            status = error.status
        self._log.info("emulator.api_called", operation=name, status=status)
        return web.Response(
            body=json.dumps(answer).encode(), status=status, content_type=_CONTENT_TYPE
        )

    def _answer_query(self, form: Form, caller: Caller) -> web.Response:
        """Answer a call in the query protocol, of which EC2's is known."""
        status = 200
        try:
            if form["Action"] == "DescribeInstances":
                self._fail_query("describe")
            text = self._instances.answer(form, caller, partial(self._refuse, caller))
        except QueryError as error:
            text, status = error_text(error, form), error.status
        operation = clean(form["Action"], _SHOWN)
        self._log.info("emulator.api_called", operation=operation, status=status)
        return web.Response(text=text, status=status, content_type="text/xml")

    def _refuse(self, caller: Caller, name: str, instances: list[str]) -> str:
        body = {"InstanceIds": instances}
        return self._permissions.refusal(caller, name, body, None)

    async def _answer(self, name: str, body: Body, caller: Caller) -> Body:
        session = self._registry.get(str(body.get("SessionId")))
        refusal = self._permissions.refusal(caller, name, body, session)
        if refusal:
            raise ApiError("AccessDeniedException", refusal)
        if name in self._caller_operations:
            return await self._caller_operations[name](body, caller)
        return await self._operations.get(name, _unknown)(body)

    async def _start_session(self, body: Body, caller: Caller) -> Body:
        request = self._check_start(body, caller)
        if self._plan.knobs.start_delay:
            await asyncio.sleep(self._plan.knobs.start_delay)
        empty = self._fail("start")
        if not self._registry.is_online(request.target):
            raise ApiError("TargetNotConnected", f"{request.target} is not connected.")
        session = self._registry.start(request)
        return self._grant(session, empty=empty)

    async def _resume_session(self, body: Body) -> Body:
        session_id = _text(body, "SessionId", 1, 96)
        empty = self._fail("resume")
        session = self._registry.get(session_id)
        if session is None or session.over:
            # Both answers occur in the wild (protocol 1.1); the second is a knob.
            if self._plan.api_error("gone") == "empty-token":
                return {"SessionId": session_id, "TokenValue": "", "StreamUrl": ""}
            raise ApiError(
                "DoesNotExistException", f"Session {session_id} does not exist"
            )
        if not empty:
            session.rotate()
        return self._grant(session, empty=empty)

    async def _terminate_session(self, body: Body) -> Body:
        session_id = _text(body, "SessionId", 1, 96)
        self._fail("terminate")
        session = self._registry.get(session_id)
        if session is not None:
            session.end()
        return {"SessionId": session_id}

    async def _describe_sessions(self, body: Body) -> Body:
        self._fail("describe")
        state = body.get("State")
        if state not in ("Active", "History"):
            raise ApiError("ValidationException", "State must be Active or History")
        found = [
            self._describe(session)
            for session in self._registry
            if session.over is (state == "History")
        ]
        for key, value in _session_filters(body):
            found = [entry for entry in found if _matches(entry, key, value)]
        found.reverse()  # the newest first
        return _page(found, body, "Sessions")

    async def _get_connection_status(self, body: Body) -> Body:
        target = _text(body, "Target", 1, 400)
        well_formed = TARGET.fullmatch(target) is not None
        online = well_formed and self._registry.is_online(target)
        return {"Target": target, "Status": "connected" if online else "notconnected"}

    async def _describe_instance_information(self, body: Body) -> Body:
        self._fail("describe")
        filters = [_node_filter(item) for item in _list(body, "Filters")]
        filters += map(_node_filter, _list(body, "InstanceInformationFilterList"))
        asked = [i for key, ids in filters if key == "InstanceIds" for i in ids]
        found = [self._instance(target) for target in self._registry.nodes(asked)]
        for key, values in filters:
            found = [node for node in found if self._has(node, key, values)]
        return _page(found, body, "InstanceInformationList")

    async def _get_inventory(self, body: Body) -> Body:
        filters = [_inventory_filter(item) for item in _list(body, "Filters")]
        asked = [v for f in filters if f.attribute == "InstanceId" for v in f.values]
        wanted = [str(r.get("TypeName")) for r in _list(body, "ResultAttributes")]
        if any(name != INVENTORY_TYPE for name in wanted):
            raise ApiError("InvalidTypeNameException", "the type is not known here")
        contents = map(self._inventory, self._registry.nodes(asked))
        found = [c for c in contents if all(f.admits(c) for f in filters)]
        now = self._settings.wall_clock().strftime("%Y-%m-%dT%H:%M:%SZ")
        entities = [_entity(content, now) for content in found]
        return _page(entities, body, "Entities", _LARGEST_INVENTORY)

    def _inventory(self, target: str) -> dict[str, str]:
        node = self._settings.nodes.get(target, Node())
        described = self._instance(target)
        return {
            "AgentType": "amazon-ssm-agent",
            "AgentVersion": self._settings.agent_version,
            "ComputerName": node.name,
            "InstanceId": target,
            "InstanceStatus": "Active",
            "IpAddress": node.address,
            "PlatformName": "Amazon Linux",
            "PlatformType": "Linux",
            "PlatformVersion": "2023",
            "ResourceType": described["ResourceType"],
        }

    def _has(self, entry: Body, key: str, values: list[str]) -> bool:
        if key in _NODE_KEYS:
            return entry.get(_NODE_KEYS[key]) in values
        tags = self._settings.nodes.get(entry["InstanceId"], Node()).tags
        if key == "tag-key":
            return not tags.keys().isdisjoint(values)
        return tags.get(key.removeprefix("tag:")) in values

    def _fail(self, operation: str) -> bool:
        """Raise the fault that is due; say whether to return an empty token."""
        code = self._plan.api_error(operation)
        if code is None:
            return False
        if code == "empty-token":
            return True
        if code.isdecimal():
            status = int(code)
            raise ApiError(_BY_STATUS.get(status, "ServiceException"), "", status)
        raise ApiError(_ALIASES.get(code, code))

    def _fail_query(self, operation: str) -> None:
        """Raise the fault that is due, as EC2 calls it."""
        try:
            self._fail(operation)
        except ApiError as error:
            code, status = _EC2_ERRORS.get(error.code, (error.code, error.status))
            raise QueryError(code, error.message, status) from None

    def _check_start(self, body: Body, caller: Caller) -> StartRequest:
        target = _text(body, "Target", 1, 400)
        name = body.get("DocumentName", DEFAULT_DOCUMENT)
        reason = _text(body, "Reason", 1, 256) if "Reason" in body else ""
        if reason and not _REASON.fullmatch(reason):
            raise ApiError("ValidationException", "Reason must be one line")
        if not isinstance(name, str) or not _DOCUMENT_NAME.fullmatch(name):
            raise ApiError("ValidationException", "DocumentName is malformed")
        document = self._documents.get(name)
        if document is None:
            raise ApiError("InvalidDocument", f"Document with name {name} not found.")
        try:
            properties = document.properties(_parameters(body))
        except ParameterRefused as refused:
            raise ApiError("InvalidParameters", str(refused)) from None
        if not TARGET.fullmatch(target):
            raise ApiError("TargetNotConnected", f"{target} is not connected.")
        return StartRequest(
            target, name, properties, reason, owner=caller.arn, caller=caller.name
        )

    def _grant(self, session: Session, *, empty: bool) -> Body:
        url = f"{self._stream_url()}{session.id}?role=publish_subscribe"
        return {
            "SessionId": session.id,
            "TokenValue": "" if empty else session.token.reveal(),
            "StreamUrl": f"{url}&cell-number={session.cell_number}",
        }

    def _describe(self, session: Session) -> Body:
        entry: Body = {
            "SessionId": session.id,
            "Target": session.request.target,
            "Status": session.status.value,
            "StartDate": session.started.timestamp(),
            "DocumentName": session.request.document,
            "Owner": session.request.owner or self._settings.owner,
            "AccessType": "Standard",
        }
        if session.request.reason:
            entry["Reason"] = session.request.reason
        if session.ended is not None:
            entry["EndDate"] = session.ended.timestamp()
        if self._settings.max_duration is not None:
            # Whole minutes, as text, which is what the service has (protocol 1.1).
            minutes = max(1, round(self._settings.max_duration / 60))
            entry["MaxSessionDuration"] = str(minutes)
        return entry

    def _instance(self, target: str) -> Body:
        online = self._registry.is_online(target)
        managed = target.startswith("mi-")
        entry = {
            "InstanceId": target,
            "PingStatus": "Online" if online else "ConnectionLost",
            "AgentVersion": self._settings.agent_version,
            "IsLatestVersion": True,
            "PlatformType": "Linux",
            "ResourceType": "ManagedInstance" if managed else "EC2Instance",
        }
        node = self._settings.nodes.get(target, Node())
        if node.name:
            entry["ComputerName"] = node.name
        if node.address:
            entry["IPAddress"] = node.address
        return entry


async def _unknown(_body: Body) -> Body:
    raise ApiError("UnknownOperationException")


def _parse(raw: bytes) -> Body:
    try:
        body = json.loads(raw or b"{}")
    except (ValueError, RecursionError):
        raise ApiError("SerializationException") from None
    if not isinstance(body, dict):
        raise ApiError("SerializationException")
    return body


def _text(body: Body, key: str, shortest: int, longest: int) -> str:
    value = body.get(key)
    if not isinstance(value, str) or not shortest <= len(value) <= longest:
        raise ApiError(
            "ValidationException",
            f"{key} must be text of {shortest} to {longest} characters",
        )
    return value


def _list(body: Body, key: str) -> list[Body]:
    value = body.get(key) or []
    if not isinstance(value, list) or not all(isinstance(v, dict) for v in value):
        raise ApiError("ValidationException", f"{key} must be a list of objects")
    return value


def _parameters(body: Body) -> dict[str, list[str]]:
    parameters = body.get("Parameters") or {}
    if not isinstance(parameters, dict):
        raise ApiError("SerializationException", "Parameters must be a map")
    for values in parameters.values():
        if not isinstance(values, list) or not _all_text(values):
            raise ApiError(
                "SerializationException", "each parameter must be a list of strings"
            )
    return parameters


def _all_text(values: Iterable[object]) -> bool:
    return all(isinstance(value, str) and value for value in values)


_SESSION_KEYS: Final = frozenset(
    {"Owner", "Target", "Status", "SessionId", "AccessType"}
)
_INVOKED_KEYS: Final = frozenset({"InvokedAfter", "InvokedBefore"})


def _session_filters(body: Body) -> list[tuple[str, str]]:
    filters = _list(body, "Filters")
    if len(filters) > _MOST_FILTERS:
        raise ApiError("ValidationException", f"more than {_MOST_FILTERS} filters")
    found = []
    for item in filters:
        key, value = item.get("key"), _text(item, "value", 1, _LONGEST_FILTER)
        if key not in _SESSION_KEYS | _INVOKED_KEYS:
            raise ApiError("InvalidFilterKey", "the filter's key is unknown")
        if key in _INVOKED_KEYS:
            _moment(value)
        found.append((key, value))
    return found


def _matches(entry: Body, key: str, value: str) -> bool:
    match key:
        case "InvokedAfter":
            return bool(entry["StartDate"] >= _moment(value))
        case "InvokedBefore":
            return bool(entry["StartDate"] < _moment(value))
        case _:
            return bool(entry[key] == value)


_NODE_KEYS: Final = {
    "InstanceIds": "InstanceId",
    "PingStatus": "PingStatus",
    "PlatformTypes": "PlatformType",
    "AgentVersion": "AgentVersion",
    "ResourceType": "ResourceType",
}


def _node_filter(item: Body) -> tuple[str, list[str]]:
    """Return the key and the values of a filter, in either of its two spellings."""
    key = item.get("Key", item.get("key"))
    values = item.get("Values", item.get("valueSet"))
    if not isinstance(values, list) or not values or not _all_text(values):
        raise ApiError("InvalidInstanceInformationFilterValue", "no values")
    is_tag = isinstance(key, str) and key.startswith(("tag:", "tag-key"))
    if not isinstance(key, str) or not (is_tag or key in _NODE_KEYS):
        raise ApiError("InvalidFilterKey", "the filter's key is unknown")
    return key, values


@dataclass(frozen=True, slots=True)
class _InventoryFilter:
    attribute: str
    values: tuple[str, ...]
    how: str

    def admits(self, content: Mapping[str, str]) -> bool:
        found = content.get(self.attribute)
        if self.how == "Exists":
            return found is not None
        if found is None:
            return False
        match self.how:
            case "BeginWith":
                return found.startswith(self.values)
            case "NotEqual":
                return found not in self.values
            case _:
                return found in self.values


def _inventory_filter(item: Body) -> _InventoryFilter:
    key, values = item.get("Key"), item.get("Values")
    if not isinstance(values, list) or not values or not _all_text(values):
        raise ApiError("InvalidFilter", "a filter without values")
    kind, _, attribute = str(key).rpartition(".")
    how = item.get("Type", "Equal")
    if kind != INVENTORY_TYPE or how not in _COMPARISONS:
        raise ApiError("InvalidFilter", "the filter is not known here")
    return _InventoryFilter(attribute, tuple(values), how)


def _entity(content: dict[str, str], now: str) -> Body:
    return {
        "Id": content["InstanceId"],
        "Data": {
            INVENTORY_TYPE: {
                "TypeName": INVENTORY_TYPE,
                "SchemaVersion": "1.0",
                "CaptureTime": now,
                "Content": [content],
            }
        },
    }


def _moment(text: str) -> float:
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        raise ApiError("ValidationException", "not a date and time") from None


def _page(
    found: list[Body], body: Body, key: str, largest: int = _LARGEST_PAGE
) -> Body:
    size = body.get("MaxResults", largest)
    token = body.get("NextToken") or "0"
    if not isinstance(size, int) or not 1 <= size <= largest:
        raise ApiError("ValidationException", "MaxResults is malformed")
    if not (isinstance(token, str) and re.fullmatch("[0-9]{1,9}", token)):
        raise ApiError("InvalidNextToken", "NextToken is not one of ours")
    start, end = int(token), int(token) + size
    answer: Body = {key: found[start:end]}
    if end < len(found):
        answer["NextToken"] = str(end)
    return answer
