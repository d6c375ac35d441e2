"""EC2's DescribeInstances in its query protocol, so that names and tags can be targets.

Every node that is an instance of EC2 runs; what is known of it is its `Node`. Calls of
the query protocol that are not answered here get an error in its form.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qs
from xml.etree import ElementTree as ET

from ssmtunneld.emulator.callers import Caller
from ssmtunneld.emulator.settings import EmulatorSettings, Node

EC2_VERSION: Final = "2016-11-15"
"""The version of EC2's API, by which its calls and the form of its errors are known."""
OPERATION: Final = "AmazonEC2.DescribeInstances"
"""Its name, spelled as those of other services are in ``X-Amz-Target``."""
VPC: Final = "vpc-0123456789abcdef0"
"""The VPC that all instances are in."""

_MOST_FIELDS: Final = 500
"""Fields of a call: EC2 takes 200 values of filters, and each filter has a name."""
_LONGEST_PAGE: Final = 1000
_RUNNING: Final = ("16", "running")
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
    """

    def __init__(
        self, settings: EmulatorSettings, nodes: Callable[[list[str]], list[str]]
    ) -> None:
        self._settings = settings
        self._nodes = nodes
        self._launched = settings.wall_clock()

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
        root = ET.Element(
            "DescribeInstancesResponse",
            xmlns=f"http://ec2.amazonaws.com/doc/{EC2_VERSION}/",
        )
        _add(root, "requestId", _REQUEST)
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
        code, name = _RUNNING
        _add(item, "instanceId", instance)
        state = ET.SubElement(item, "instanceState")
        _add(state, "code", code)
        _add(state, "name", name)
        _add(item, "launchTime", self._launched.strftime("%Y-%m-%dT%H:%M:%S.000Z"))
        _add(item, "vpcId", VPC)
        profile = ET.SubElement(item, "iamInstanceProfile")
        _add(profile, "id", "AIPAEMULATOR00000000")
        if ":" not in node.address:
            _add(item, "privateIpAddress", node.address)
            _add(item, "privateDnsName", _dns_name(node))
        tags = ET.SubElement(item, "tagSet")
        for key, value in _tags(node).items():
            tag = ET.SubElement(tags, "item")
            _add(tag, "key", key)
            _add(tag, "value", value)

    def _facts(self, instance: str, wanted: "_Filter") -> Sequence[str]:
        """Return the values of an instance that a filter compares."""
        node = self._node(instance)
        tags = _tags(node)
        kind, colon, key = wanted.name.partition(":")
        if colon and kind == "tag":
            return [tags[key]] if key in tags else []
        facts: dict[str, Sequence[str]] = {
            "instance-id": [instance],
            "instance-state-name": [_RUNNING[1]],
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


def _tags(node: Node) -> dict[str, str]:
    named = {"Name": node.name} if node.name else {}
    return {**named, **node.tags}


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
