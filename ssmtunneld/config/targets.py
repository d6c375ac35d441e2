"""Targets of sessions: ids, and searches that find them.

The grammar of ``target``. Ids are the service's own (protocol 1.3); everything else is
looked up in AWS when a session starts (``aws/targets/search.py``).
"""

import re
from collections.abc import Callable, Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final, TypeAlias

from typing_extensions import override

from ssmtunneld.base.foreign import clean
from ssmtunneld.base.record import Record

# A cluster's name can contain underscores; a task's id is 32 hex digits, and was a
# UUID before 2019. The runtime id is the task's id, a dash and digits on Fargate, and
# Docker's container id elsewhere.
_ID: Final = re.compile(
    r"i-(?:[0-9a-f]{8}|[0-9a-f]{17})|mi-[0-9a-f]{17}"
    r"|ecs:[A-Za-z0-9_-]{1,255}_[A-Za-z0-9-]{1,64}_[A-Za-z0-9-]{1,128}"
)
_NEAR_ID: Final = re.compile(r"m?i-[0-9A-Za-z]{1,40}")
_SERVICE: Final = re.compile(
    r"([A-Za-z0-9_-]{1,255})/([A-Za-z0-9_-]{1,255})(?:/([A-Za-z0-9_-]{1,255}))?"
)
_NAME: Final = re.compile(r"(?=.{1,253}$)[A-Za-z0-9][A-Za-z0-9.-]*[A-Za-z0-9]")
# EC2's own names of instances, by address or by id.
_PRIVATE_NAME: Final = re.compile(
    r"(?:ip|i)-[0-9a-f-]{7,40}\.[a-z0-9.-]{1,100}\.internal", re.IGNORECASE
)
_TAG: Final = re.compile(r"[A-Za-z0-9_.+/@-]{1,128}=[A-Za-z0-9_.+/@-]{0,256}")
_WORD: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,254}")
# Where one tag ends and the next begins; a value can contain a comma of its own.
_NEXT_TAG: Final = re.compile(",(?=tag:)")

FORMS: Final = (
    "i-..., mi-..., name:web-1, tag:Key=Value, asg:NAME, ip:10.0.0.5, "
    "dns:ip-10-0-0-5.eu-west-1.compute.internal, ecs:cluster/service, "
    "ecs:cluster/service/container or ecs:cluster_task_runtime"
)
"""Spellings of targets, for messages."""


class FixedTarget(Record):
    """An id that StartSession takes unchanged."""

    id: str

    @override
    def __str__(self) -> str:
        return self.id


class TaggedTarget(Record):
    """Instances and managed nodes that carry all of these tags."""

    tags: tuple[tuple[str, str], ...]

    @override
    def __str__(self) -> str:
        return ",".join(f"tag:{key}={value}" for key, value in self.tags)


class GroupTarget(Record):
    """The instances in service of an Auto Scaling group."""

    name: str

    @override
    def __str__(self) -> str:
        return f"asg:{self.name}"


class AddressTarget(Record):
    """The instance with a private address."""

    address: IPv4Address | IPv6Address

    @override
    def __str__(self) -> str:
        return f"ip:{self.address}"


class HostTarget(Record):
    """The instance with a private DNS name."""

    name: str

    @override
    def __str__(self) -> str:
        return f"dns:{self.name}"


class ServiceTarget(Record):
    """The running tasks of an ECS service."""

    cluster: str
    service: str
    container: str | None = None
    """None where only one container of a task can be reached."""

    @override
    def __str__(self) -> str:
        container = "" if self.container is None else f"/{self.container}"
        return f"ecs:{self.cluster}/{self.service}{container}"


SearchedTarget: TypeAlias = (
    TaggedTarget | GroupTarget | AddressTarget | HostTarget | ServiceTarget
)
"""A target that must be looked up, with a result that can change."""
Target: TypeAlias = FixedTarget | SearchedTarget


BastionTarget: TypeAlias = FixedTarget | TaggedTarget | AddressTarget | HostTarget
"""A target that can be one instance of EC2, also a stopped one."""


def parse_target(text: str) -> Target:
    """Return the target that ``text`` describes.

    Raises:
        ValueError: The text is not a target; says what to write.
    """
    if _ID.fullmatch(text):
        return FixedTarget(text)
    if _NEAR_ID.fullmatch(text):
        raise ValueError(_why_no_id(text))
    kind, _, rest = text.partition(":")
    read = _READERS.get(kind)
    if read is None or not rest or not rest.isprintable() or rest != rest.strip():
        raise ValueError(f"is not a target: write {FORMS}")
    return read(rest)


def _why_no_id(text: str) -> str:
    if _ID.fullmatch(text.lower()):
        return "is not a target: write the hex digits of an id in small letters"
    kind, _, digits = text.partition("-")
    what, lengths = ("n instance", "8 or 17") if kind == "i" else (" node", "17")
    found = "others" if re.search("[^0-9a-fA-F]", digits) else len(digits)
    return (
        f"is not a target: a{what} id has {lengths} hex digits after {kind}-, "
        f"and this one has {found}"
    )


def describe_target(text: str, complaint: object) -> str:
    """Return ``complaint`` about a word that was typed, with what it probably means."""
    meant = meant_by(text)
    hint = f"; did you mean {meant}?" if meant else ""
    return f"{clean(text)!r} {complaint}{hint}"


def meant_by(text: str) -> str:
    """Return the target that a word without its kind probably means; empty for none.

    For words that were typed: complaints about a file repeat nothing of it.
    """
    if text.startswith(("i-", "mi-")):
        return ""  # an id that lacks something
    try:
        return f"ip:{ip_address(text)}"
    except ValueError:
        pass
    if _PRIVATE_NAME.fullmatch(text):
        return f"dns:{text}"
    if _SERVICE.fullmatch(text):
        return f"ecs:{text}"
    if _TAG.fullmatch(text):
        return f"tag:{text}"
    return f"name:{text}" if _WORD.fullmatch(text) else ""


def may_be_instance(target: Target) -> bool:
    """Return True if ``target`` is, or could be found to be, an EC2 instance."""
    if isinstance(target, FixedTarget):
        return target.id.startswith("i-")
    return not isinstance(target, ServiceTarget)


def bastion_target(text: str) -> BastionTarget | None:
    """Return the target that ``text`` describes, if that can be a stopped instance.

    Those of an Auto Scaling group cannot: the group replaces what is stopped.
    """
    match parse_target(text):
        case FixedTarget(target) if not target.startswith("i-"):
            return None
        case FixedTarget() | TaggedTarget() | AddressTarget() | HostTarget() as found:
            return found
        case _:
            return None


def may_be_node(target: Target) -> bool:
    """Return True if ``target`` is, or could be, an instance or a managed node."""
    if isinstance(target, FixedTarget):
        return target.id.startswith(("i-", "mi-"))
    return not isinstance(target, ServiceTarget)


def _tags(text: str) -> TaggedTarget:
    return TaggedTarget(tuple(_tag(part) for part in _NEXT_TAG.split(text)))


def _tag(text: str) -> tuple[str, str]:
    key, equals, value = text.removeprefix("tag:").partition("=")
    if not (key and equals):
        shown = text.removeprefix("tag:")
        raise ValueError(f"is not a tag: write tag:Key=Value, not {shown}")
    return key, value


def _address(text: str) -> AddressTarget:
    try:
        return AddressTarget(ip_address(text))
    except ValueError:
        raise ValueError("is not an IP address: write ip:10.0.0.5") from None


def _host(text: str) -> HostTarget:
    if not _NAME.fullmatch(text):
        raise ValueError(
            "is not a private DNS name: write "
            "dns:ip-10-0-0-5.eu-west-1.compute.internal"
        )
    return HostTarget(text.lower())


def _service(text: str) -> ServiceTarget:
    match = _SERVICE.fullmatch(text)
    if match is None:
        raise ValueError(
            "is not an ECS target: write ecs:cluster/service, "
            "ecs:cluster/service/container or ecs:cluster_task_runtime"
        )
    return ServiceTarget(match[1], match[2], match[3])


_READERS: Final[Mapping[str, Callable[[str], SearchedTarget]]] = {
    "name": lambda text: TaggedTarget((("Name", text),)),
    "tag": _tags,
    "asg": GroupTarget,
    "ip": _address,
    "dns": _host,
    "ecs": _service,
}
