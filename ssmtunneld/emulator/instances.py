"""EC2 in its query protocol: instances are found, tagged, started and stopped.

Names and tags can be targets, and instances sleep. What is known of one is its `Node`
and its `Power`. Calls of the query protocol that are not answered here get an error in
its form.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qs
from xml.etree import ElementTree as ET

from ssmtunneld.emulator.callers import Caller
from ssmtunneld.emulator.power import CODES, Power, PowerError, PowerState
from ssmtunneld.emulator.settings import EmulatorSettings, Node

EC2_VERSION: Final = "2016-11-15"
"""The version of EC2's API, by which its calls and the form of its errors are known."""
SERVICE: Final = "AmazonEC2"
"""Its name, spelled as those of other services are in ``X-Amz-Target``."""
VPC: Final = "vpc-0123456789abcdef0"
"""The VPC that all instances are in."""

_MOST_FIELDS: Final = 500
"""Fields of a call: EC2 takes 200 values of filters, and each filter has a name."""
_LONGEST_PAGE: Final = 1000
_LONGEST_KEY: Final = 127
_LONGEST_VALUE: Final = 256
_NUMBER: Final = re.compile("[0-9]{1,9}")
_REQUEST: Final = "00000000-0000-4000-8000-000000000000"

Form = Mapping[str, str]


class QueryError(Exception):
    """An answer that is an error, in the query protocol.

    Args:
        code: The service's.
        message: The service's.
        status: Of HTTP.
    """

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message
        self.status = status


def read_form(raw: bytes) -> Form:
    """Return the fields of a call in the query protocol; none if it is not one."""
    try:
        fields = parse_qs(raw.decode("utf-8"), max_num_fields=_MOST_FIELDS)
    except ValueError:
        return {}
    found = {key: values[0] for key, values in fields.items()}
    return found if "Action" in found else {}


def error_text(error: QueryError, form: Form) -> str:
    """Return an error as XML: EC2's form of it, or that of the other services."""
    if form.get("Version") == EC2_VERSION:
        root = ET.Element("Response")
        parent = ET.SubElement(root, "Errors")
        name = "RequestID"
    else:
        root = parent = ET.Element("ErrorResponse")
        name = "RequestId"
    item = ET.SubElement(parent, "Error")
    _add(item, "Code", error.code)
    _add(item, "Message", error.message)
    _add(root, name, _REQUEST)
    return ET.tostring(root, encoding="unicode")


class Instances:
    """The instances of EC2 that there are.

    Args:
        settings: What is known of each.
        nodes: Returns the ids of the nodes that exist, given those that are asked for.
        power: Their states and tags.
    """

    def __init__(
        self,
        settings: EmulatorSettings,
        nodes: Callable[[list[str]], list[str]],
        power: Power,
    ) -> None:
        self._settings = settings
        self._nodes = nodes
        self._power = power
        self._actions: dict[str, Callable[[Form, Caller], str]] = {
            "DescribeInstances": self.describe,
            "StartInstances": self._start,
            "StopInstances": self._stop,
            "CreateTags": self._create_tags,
            "DeleteTags": self._delete_tags,
        }

    @property
    def actions(self) -> frozenset[str]:
        """Calls that are answered."""
        return frozenset(self._actions)

    def answer(
        self, form: Form, caller: Caller, refuse: Callable[[str, list[str]], str]
    ) -> str:
        """Answer a call.

        Args:
            form: Its fields.
            caller: Who calls.
            refuse: Returns why an action on instances is refused; empty if it is not.

        Raises:
            QueryError: It is not known, refused, malformed, or impossible.
        """
        name = form["Action"]
        if name not in self._actions:
            raise QueryError("InvalidAction", "The action is not known here")
        changed = [] if name == "DescribeInstances" else self._changed(form)
        if refusal := refuse(f"{SERVICE}.{name}", changed):
            raise QueryError("UnauthorizedOperation", refusal, 403)
        if form.get("DryRun") == "true":
            text = "Request would have succeeded, but DryRun flag is set."
            raise QueryError("DryRunOperation", text, 412)
        try:
            return self._actions[name](form, caller)
        except PowerError as error:
            raise QueryError(error.code, error.message) from None

    def _changed(self, form: Form) -> list[str]:
        """Return the instances that a call is to change."""
        asked = _listed(form, "InstanceId") or _listed(form, "ResourceId")
        if not asked:
            raise QueryError("MissingParameter", "The request must name an instance")
        known = {i for i in self._nodes(asked) if i.startswith("i-")}
        for instance in asked:
            if instance not in known:
                text = f"The instance ID '{instance}' does not exist"
                raise QueryError("InvalidInstanceID.NotFound", text)
        return asked

    def _start(self, form: Form, _caller: Caller) -> str:
        return self._change("StartInstances", form, self._power.start)

    def _stop(self, form: Form, _caller: Caller) -> str:
        return self._change("StopInstances", form, self._power.stop)

    def _change(
        self,
        name: str,
        form: Form,
        change: Callable[[str], tuple[PowerState, PowerState]],
    ) -> str:
        root = _root(f"{name}Response")
        changes = ET.SubElement(root, "instancesSet")
        for instance in self._changed(form):
            before, after = change(instance)
            item = ET.SubElement(changes, "item")
            _add(item, "instanceId", instance)
            _add_state(item, "currentState", after)
            _add_state(item, "previousState", before)
        return ET.tostring(root, encoding="unicode")

    def _create_tags(self, form: Form, _caller: Caller) -> str:
        tags = {key: value or "" for key, value in _tags_in(form)}
        for instance in self._changed(form):
            self._power.write_tags(instance, tags)
        return _done("CreateTagsResponse")

    def _delete_tags(self, form: Form, _caller: Caller) -> str:
        tags = dict(_tags_in(form))
        for instance in self._changed(form):
            every = dict.fromkeys(self._power.tags(instance))
            self._power.erase_tags(instance, tags or every)
        return _done("DeleteTagsResponse")

    def describe(self, form: Form, caller: Caller) -> str:
        """Answer DescribeInstances.

        Raises:
            QueryError: The call is malformed.
        """
        filters = list(_filters(form))
        asked = _listed(form, "InstanceId")
        named = [v for f in filters if f.name == "instance-id" for v in f.values]
        ids = [i for i in self._nodes([*asked, *named]) if i.startswith("i-")]
        if asked:
            ids = [i for i in ids if i in asked]
        found = [i for i in ids if all(f.admits(self._facts(i, f)) for f in filters)]
        start, end = _page(form)
        root = _root("DescribeInstancesResponse")
        reservations = ET.SubElement(root, "reservationSet")
        for instance in found[start:end]:
            item = ET.SubElement(reservations, "item")
            _add(item, "reservationId", f"r-{instance[2:]}")
            _add(item, "ownerId", caller.account)
            parent = ET.SubElement(item, "instancesSet")
            self._add_instance(ET.SubElement(parent, "item"), instance)
        if end < len(found):
            _add(root, "nextToken", str(end))
        return ET.tostring(root, encoding="unicode")

    def _add_instance(self, item: ET.Element, instance: str) -> None:
        node = self._node(instance)
        _add(item, "instanceId", instance)
        _add_state(item, "instanceState", self._power.state_of(instance))
        launched = self._power.launched(instance)
        _add(item, "launchTime", launched.strftime("%Y-%m-%dT%H:%M:%S.000Z"))
        _add(item, "vpcId", VPC)
        profile = ET.SubElement(item, "iamInstanceProfile")
        _add(profile, "id", "AIPAEMULATOR00000000")
        if ":" not in node.address:
            _add(item, "privateIpAddress", node.address)
            _add(item, "privateDnsName", _dns_name(node))
        tags = ET.SubElement(item, "tagSet")
        for key, value in self._power.tags(instance).items():
            tag = ET.SubElement(tags, "item")
            _add(tag, "key", key)
            _add(tag, "value", value)

    def _facts(self, instance: str, wanted: "_Filter") -> Sequence[str]:
        """Return the values of an instance that a filter compares."""
        node = self._node(instance)
        tags = self._power.tags(instance)
        kind, colon, key = wanted.name.partition(":")
        if colon and kind == "tag":
            return [tags[key]] if key in tags else []
        facts: dict[str, Sequence[str]] = {
            "instance-id": [instance],
            "instance-state-name": [self._power.state_of(instance).value],
            "private-ip-address": [node.address],
            "network-interface.ipv6-addresses.ipv6-address": [node.address],
            "private-dns-name": [_dns_name(node)],
            "tag-key": list(tags),
            "vpc-id": [VPC],
        }
        if wanted.name not in facts:
            raise QueryError(
                "InvalidParameterValue", f"The filter '{wanted.name}' is invalid"
            )
        return facts[wanted.name]

    def _node(self, instance: str) -> Node:
        return self._settings.nodes.get(instance, Node())


def _root(name: str) -> ET.Element:
    root = ET.Element(name, xmlns=f"http://ec2.amazonaws.com/doc/{EC2_VERSION}/")
    _add(root, "requestId", _REQUEST)
    return root


def _done(name: str) -> str:
    root = _root(name)
    _add(root, "return", "true")
    return ET.tostring(root, encoding="unicode")


def _add_state(parent: ET.Element, name: str, state: PowerState) -> None:
    item = ET.SubElement(parent, name)
    _add(item, "code", str(CODES[state]))
    _add(item, "name", state.value)


def _tags_in(form: Form) -> Iterator[tuple[str, str | None]]:
    """Yield keys and values; None for a key without one."""
    for number in range(1, _MOST_FIELDS):
        key = form.get(f"Tag.{number}.Key")
        if key is None:
            return
        value = form.get(f"Tag.{number}.Value")
        if not 1 <= len(key) <= _LONGEST_KEY or len(value or "") > _LONGEST_VALUE:
            raise QueryError("InvalidParameterValue", "A tag is too long")
        yield key, value


def _dns_name(node: Node) -> str:
    if not node.address or ":" in node.address:
        return ""
    return f"ip-{node.address.replace('.', '-')}.ec2.internal"


def _add(parent: ET.Element, name: str, text: str) -> None:
    if text:
        ET.SubElement(parent, name).text = text


@dataclass(frozen=True, slots=True)
class _Filter:
    name: str
    values: tuple[str, ...]

    def admits(self, facts: Sequence[str]) -> bool:
        return any(_is_like(value, fact) for value in self.values for fact in facts)


def _filters(form: Form) -> Iterator[_Filter]:
    for number in range(1, _MOST_FIELDS):
        name = form.get(f"Filter.{number}.Name")
        if name is None:
            return
        values = _listed(form, f"Filter.{number}.Value")
        if not values:
            raise QueryError("InvalidParameterValue", f"The filter '{name}' is empty")
        yield _Filter(name, tuple(values))


def _listed(form: Form, stem: str) -> list[str]:
    found = (form.get(f"{stem}.{number}") for number in range(1, _MOST_FIELDS))
    return [value for value in found if value is not None]


def _page(form: Form) -> tuple[int, int]:
    size, token = form.get("MaxResults", str(_LONGEST_PAGE)), form.get("NextToken", "0")
    if not (_NUMBER.fullmatch(size) and 5 <= int(size) <= _LONGEST_PAGE):
        raise QueryError("InvalidParameterValue", "MaxResults is not 5 to 1000")
    if not _NUMBER.fullmatch(token):
        raise QueryError("InvalidNextToken", "The token is not one of ours")
    return int(token), int(token) + int(size)


def _is_like(pattern: str, text: str) -> bool:
    """Match EC2's wildcards ``*`` and ``?``; a backslash takes their meaning away.

    In time proportional to the product of both lengths, whatever the pattern.
    """
    pieces = list(_pieces(pattern))
    reached = {0}
    for piece in pieces:
        if piece == "*":
            reached = set(range(min(reached), len(text) + 1)) if reached else set()
        else:
            reached = {
                at + 1
                for at in reached
                if at < len(text) and piece in ("?", f"\\{text[at]}")
            }
    return len(text) in reached


def _pieces(pattern: str) -> Iterator[str]:
    """Yield wildcards as they are, and all else behind a backslash."""
    letters = iter(pattern)
    for letter in letters:
        if letter == "\\":
            yield f"\\{next(letters, letter)}"
        else:
            yield letter if letter in "*?" else f"\\{letter}"
