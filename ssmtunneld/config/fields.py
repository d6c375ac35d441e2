"""The types of single settings: how they are read, checked, written and described."""

import errno
import re
import stat
from collections.abc import Callable
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Final, Literal, TypeAlias

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    GetCoreSchemaHandler,
    PlainSerializer,
    ValidationInfo,
    WithJsonSchema,
)
from pydantic_core import core_schema

from ssmtunneld.base.paths import is_file
from ssmtunneld.base.ports import HIGHEST_PORT
from ssmtunneld.base.record import Record
from ssmtunneld.config.destinations import Pattern, parse_pattern
from ssmtunneld.config.includes import check_pattern
from ssmtunneld.config.metadata import Kind
from ssmtunneld.config.parsers import (
    Address,
    check_host,
    check_proxy,
    expand_home,
    format_duration,
    format_keep_alive,
    format_mode,
    format_size,
    parse_address,
    parse_duration,
    parse_keep_alive,
    parse_mode,
    parse_network,
    parse_size,
)
from ssmtunneld.config.probes import PROBE_PATTERN, Probe, parse_probe
from ssmtunneld.config.targets import parse_target
from ssmtunneld.config.users import User, parse_user

# Four messages of the agent: with less, reading stops and starts for each of them.
SMALLEST_BUFFER_BYTES: Final = 4096
# A bound against slips of the pen ("8GiB"), far above what any tunnel needs.
LARGEST_BUFFER_BYTES: Final = 2**30

SMALLEST_MESSAGE: Final = 1024
"""Bytes of payload that every agent takes (protocol 4.4)."""
LARGEST_MESSAGE: Final = 32768
"""Bytes of payload that were tried on an official agent (protocol Appendix E)."""
REASON_LIMIT: Final = 256
"""Characters of a session's reason, in StartSession's model (protocol 1.1)."""
NAME_PATTERN: Final = "[a-z0-9][a-z0-9_-]{0,62}"
_DOCUMENT: Final = re.compile(r"[a-zA-Z0-9_\-.:/]{3,128}")  # protocol 1.2
_REGION: Final = re.compile(r"[a-z]{2,6}(-[a-z]+)+-[0-9]{1,2}")
_ROLE: Final = re.compile(
    r"arn:aws[a-z-]*:iam::[0-9]{12}:role/[A-Za-z0-9_+=,.@/-]{1,576}"
)
_CLUSTER: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
_HOST_PORT: Final = re.compile(r"([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?")


class _Read(Record):
    """Mark of a field with values that a function reads: a ``PlainValidator``.

    pydantic's own also describes the type itself, twice, for serializers that no field
    here needs: two thirds of the 15 ms that the model of a tunnel takes at each start.

    Attributes:
        function: Takes what stands in the file, and returns the value.
        informed: True if it also takes pydantic's ``ValidationInfo``.
    """

    function: Callable[..., object]
    informed: bool = False

    def __get_pydantic_core_schema__(
        self, _: object, __: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        if self.informed:
            return core_schema.with_info_plain_validator_function(self.function)
        return core_schema.no_info_plain_validator_function(self.function)


def _read_message_size(value: object) -> int | Literal["auto"]:
    if value == "auto":
        return "auto"
    try:
        size = parse_size(value)
    except ValueError:
        raise ValueError('should be "auto" or a size such as "8KiB"') from None
    if not SMALLEST_MESSAGE <= size <= LARGEST_MESSAGE:
        raise ValueError(
            f"should be from {SMALLEST_MESSAGE} to {LARGEST_MESSAGE} bytes"
        )
    return size


def _write_message_size(value: int | Literal["auto"]) -> str:
    return value if value == "auto" else format_size(value)


def _check_name(name: str) -> str:
    if not re.fullmatch(NAME_PATTERN, name):
        raise ValueError(
            "is not a tunnel's name: up to 63 of a-z, 0-9, - and _, "
            "starting with a letter or digit"
        )
    return name


def _check_group(name: str) -> str:
    if not re.fullmatch(NAME_PATTERN, name):
        raise ValueError(
            "is not a group's name: up to 63 of a-z, 0-9, - and _, "
            "starting with a letter or digit"
        )
    return name


def _read_target(value: object) -> object:
    """Let a list of tags stand for all of them."""
    if not isinstance(value, list):
        return value
    for part in value:
        if not (isinstance(part, str) and part.startswith("tag:")):
            raise ValueError('should be one target, or a list of "tag:Key=Value"')
    return ",".join(value)


def _check_target(target: str) -> str:
    parse_target(target)
    return target


def _check_role(arn: str) -> str:
    if not _ROLE.fullmatch(arn):
        raise ValueError("is not a role: write arn:aws:iam::111122223333:role/NAME")
    return arn


def _check_session_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_+=,.@-]{2,64}", name):
        raise ValueError("is not a session name: 2 to 64 of a-z A-Z 0-9 _ + = , . @ -")
    return name


def _check_mfa_serial(serial: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_+=/:,.@-]{9,256}", serial):
        raise ValueError("is not a device: write arn:aws:iam::111122223333:mfa/NAME")
    return serial


def _check_document(document: str) -> str:
    if not _DOCUMENT.fullmatch(document):
        raise ValueError("is not a document's name: 3 to 128 of a-z A-Z 0-9 _ - . : /")
    return document


def _check_region(region: str) -> str:
    if not _REGION.fullmatch(region):
        raise ValueError('is not a region: write it like "eu-west-1"')
    return region


def _check_cluster(name: str) -> str:
    if not _CLUSTER.fullmatch(name):
        raise ValueError(
            "is not the name of an EKS cluster: up to 100 of a-z A-Z 0-9 - _, starting "
            "with a letter or digit"
        )
    return name


def _as_compared(host: str) -> str:
    return host.lower().rstrip(".")


def _check_text(text: str) -> str:
    if not text.isprintable():
        raise ValueError("should be one line of printable text")
    return text


def _check_url(url: str) -> str:
    # Nothing of the value goes into the message: a URL can carry a password.
    scheme, _, rest = url.partition("://")
    authority, _, path = rest.partition("/")
    if (
        scheme not in {"http", "https"}
        or not _HOST_PORT.fullmatch(authority)
        or not re.fullmatch(r"[A-Za-z0-9._~/-]*", path)
    ):
        raise ValueError(
            'is not an endpoint: write "https://host" or "http://host:port"'
        )
    return url


def _check_data_host(text: str) -> str:
    authority = re.sub("^(?:https|wss)://", "", text).removesuffix("/")
    if not _HOST_PORT.fullmatch(authority):
        raise ValueError(
            "is not a host for the data channel: write "
            '"vpce-0abc.ssmmessages.eu-west-1.vpce.amazonaws.com", maybe with :port'
        )
    return authority


def _listed(value: object) -> object:
    """Accept a single value for a list of one."""
    if isinstance(value, list | tuple):
        return tuple(value)
    return (value,)


def _as_tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


def _read_address(value: object, info: ValidationInfo) -> Address:
    return parse_address(value, (info.context or {}).get("home"))


def _read_mode(value: object, info: ValidationInfo) -> int:
    # In a file, 600 without quotes would mean 0o1130; a program means what it passes.
    if isinstance(value, int) and info.context is None:
        value = format_mode(value)
    return parse_mode(value)


def _read_file(value: object, info: ValidationInfo) -> Path:
    context = info.context or {}
    start: Path = context.get("directory", Path())
    path = start / expand_home(str(value), context.get("home"))
    # Found out now: in a TLS library's words it would be a riddle, and much later.
    if not is_file(path):
        raise ValueError("is not a file (paths start at the directory of this file)")
    return path


def _read_output(value: object, info: ValidationInfo) -> Path:
    if not isinstance(value, str | Path) or not str(value):
        raise ValueError("should be the path of a file")
    context = info.context or {}
    start: Path = context.get("directory", Path())
    if not str(value).isprintable():
        raise ValueError("has a character that no file's name should have")
    path = start / expand_home(str(value), context.get("home"))
    try:
        is_folder = stat.S_ISDIR(path.stat().st_mode)
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise ValueError("is too long for the path of a file") from None
        is_folder = False  # not there yet, or not for this user to see
    if is_folder:
        raise ValueError("is a directory; write the path of a file in it")
    return path


Duration: TypeAlias = Annotated[
    float,
    BeforeValidator(parse_duration),
    PlainSerializer(format_duration, when_used="json"),
    WithJsonSchema({"type": ["string", "number"], "examples": ["30s", "1h30m", 2.5]}),
    Kind("duration", format_duration),
]
"""Seconds; ``"1h30m"`` in a file."""

KeepAlive: TypeAlias = Annotated[
    float | Literal[False],
    _Read(parse_keep_alive),
    # Without a type to return, False stays False and does not become 0.0.
    PlainSerializer(format_keep_alive, return_type=object, when_used="json"),
    WithJsonSchema(
        {
            "anyOf": [{"type": ["string", "number"]}, {"const": False}],
            "examples": ["5m"],
        }
    ),
    Kind("duration, or `false`"),
]
"""Seconds, or False for none."""

Size: TypeAlias = Annotated[
    int,
    BeforeValidator(parse_size),
    PlainSerializer(format_size, when_used="json"),
    WithJsonSchema({"type": ["string", "integer"], "examples": ["64KiB", "8MiB"]}),
    Kind("size", format_size),
]
"""Bytes; ``"8MiB"`` in a file."""

Mode: TypeAlias = Annotated[
    int,
    _Read(_read_mode, informed=True),
    PlainSerializer(format_mode, when_used="json"),
    WithJsonSchema({"type": "string", "pattern": "^(0o)?0?[0-7]{3}$"}),
    Kind("mode"),
]
"""Permission bits; ``"0600"`` in a file."""

_ListenAddress: TypeAlias = Annotated[
    Address,
    _Read(_read_address, informed=True),
    PlainSerializer(str, when_used="json"),
    WithJsonSchema({"type": ["string", "integer"]}),
]
_Network: TypeAlias = Annotated[
    IPv4Network | IPv6Network,
    _Read(parse_network),
    PlainSerializer(str, when_used="json"),
    WithJsonSchema({"type": "string", "examples": ["10.0.0.0/8"]}),
]
_ParameterText: TypeAlias = Annotated[str, Field(min_length=1, max_length=65535)]
_ParameterValues: TypeAlias = Annotated[
    tuple[_ParameterText, ...], BeforeValidator(_listed), Field(min_length=1)
]


def _one_or_more(item: dict[str, object], least: int = 1) -> WithJsonSchema:
    several: dict[str, object] = {"type": "array", "items": item}
    if least:
        several["minItems"] = least
    return WithJsonSchema({"anyOf": [item, several]})


Listen: TypeAlias = Annotated[
    tuple[_ListenAddress, ...],
    BeforeValidator(_listed),
    Field(min_length=1),
    _one_or_more({"type": ["string", "integer"]}),
    Kind("address, or a list of them"),
]
HttpListen: TypeAlias = Annotated[
    tuple[_ListenAddress, ...],
    BeforeValidator(_listed),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": ["string", "integer"]},
                {"type": "array", "items": {"type": ["string", "integer"]}},
            ],
            "examples": ["127.0.0.1:9300"],
        }
    ),
    Kind("address, or a list of them"),
]
"""Local addresses, or none."""

Networks: TypeAlias = Annotated[
    tuple[_Network, ...],
    BeforeValidator(_as_tuple),
    WithJsonSchema({"type": "array", "items": {"type": "string"}}),
    Kind("list of networks"),
]
Destinations: TypeAlias = Annotated[
    tuple[
        Annotated[
            Pattern,
            _Read(parse_pattern),
            PlainSerializer(str, when_used="json"),
            WithJsonSchema(
                {
                    "type": "string",
                    "examples": ["*.internal.example.com:443", "10.0.0.0/8:*"],
                }
            ),
        ],
        ...,
    ],
    BeforeValidator(_as_tuple),
    WithJsonSchema({"type": "array", "items": {"type": "string"}}),
    Kind("list of patterns"),
]
"""Patterns of hosts and ports."""

Users: TypeAlias = Annotated[
    tuple[Annotated[User, _Read(parse_user)], ...],
    BeforeValidator(_as_tuple),
    WithJsonSchema({"type": "array", "items": {"type": ["string", "integer"]}}),
    Kind("list of users"),
]
"""User ids; names in a file."""

ProbeText: TypeAlias = Annotated[
    Probe | None,
    _Read(parse_probe),
    PlainSerializer(
        lambda probe: None if probe is None else str(probe), when_used="json"
    ),
    WithJsonSchema(
        {
            "anyOf": [
                {
                    "type": "string",
                    "pattern": PROBE_PATTERN,
                },
                {"const": False},
            ],
            "examples": ["tcp", "banner:SSH-", "http:/health"],
        }
    ),
    Kind("[probe](#probes), or `false`"),
]
"""A probe, or None; ``"http:/health"`` or ``false`` in a file."""

Parameters: TypeAlias = Annotated[
    # Limits of the service's model (protocol 1.1).
    dict[Annotated[str, Field(min_length=1, max_length=255)], _ParameterValues],
    WithJsonSchema(
        {
            "type": "object",
            "additionalProperties": {
                "anyOf": [
                    {"type": "string"},
                    {"type": "array", "items": {"type": "string"}, "minItems": 1},
                ]
            },
        }
    ),
    Kind("table of texts, or lists of texts"),
]
Port: TypeAlias = Annotated[int, Field(ge=1, le=HIGHEST_PORT)]
"""A port of a destination."""
Count: TypeAlias = Annotated[int, Field(ge=1, le=1000)]
"""A number of sessions, or of calls."""
Connections: TypeAlias = Annotated[int, Field(ge=1, le=1_000_000)]
"""A number of local connections."""
Buffer: TypeAlias = Annotated[
    Size, Field(ge=SMALLEST_BUFFER_BYTES, le=LARGEST_BUFFER_BYTES)
]
"""Limit of bytes that are held for a slow reader."""
MessageSize: TypeAlias = Annotated[
    int | Literal["auto"],
    _Read(_read_message_size),
    # Without a type to return, "auto" stays text.
    PlainSerializer(_write_message_size, return_type=object, when_used="json"),
    WithJsonSchema(
        {
            "anyOf": [
                {
                    "type": "integer",
                    "minimum": SMALLEST_MESSAGE,
                    "maximum": LARGEST_MESSAGE,
                },
                {"type": "string"},
            ],
            "examples": ["auto", "8KiB"],
        }
    ),
    Kind(
        f'`"auto"`, or size from {format_size(SMALLEST_MESSAGE)} to '
        f"{format_size(LARGEST_MESSAGE)}"
    ),
]
"""Bytes, or auto."""
Name: TypeAlias = Annotated[str, AfterValidator(_check_name)]
Target: TypeAlias = Annotated[
    str,
    BeforeValidator(_read_target),
    AfterValidator(_check_target),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string"},
                {
                    "type": "array",
                    "items": {"type": "string", "pattern": "^tag:[^=]+="},
                    "minItems": 1,
                },
            ],
            "examples": [
                "i-0182d91e85d69cf00",
                "tag:Role=bastion",
                "asg:bastions",
                "ecs:prod/api/app",
            ],
        }
    ),
    Kind("[target](targets.md)"),
]
"""A target as ``config/targets.py`` reads it; several tags are joined by commas."""
Role: TypeAlias = Annotated[
    str,
    AfterValidator(_check_role),
    Kind("ARN of a role"),
]
SessionName: TypeAlias = Annotated[str, AfterValidator(_check_session_name)]
MfaSerial: TypeAlias = Annotated[
    str,
    AfterValidator(_check_mfa_serial),
    Kind("ARN, or a number"),
]
Document: TypeAlias = Annotated[str, AfterValidator(_check_document)]
Region: TypeAlias = Annotated[str, AfterValidator(_check_region)]
HostName: TypeAlias = Annotated[
    str,
    AfterValidator(check_host),
    Kind("host name or IP address"),
]
ClusterName: TypeAlias = Annotated[
    str,
    AfterValidator(_check_cluster),
    Kind("name of an EKS cluster"),
]
HostNames: TypeAlias = Annotated[
    tuple[Annotated[HostName, AfterValidator(_as_compared)], ...],
    BeforeValidator(_as_tuple),
    WithJsonSchema({"type": "array", "items": {"type": "string"}}),
    Kind("list of host names"),
]
"""Names in the form for comparison: lower case, without a final dot."""
Text: TypeAlias = Annotated[str, Field(min_length=1), AfterValidator(_check_text)]
IncludePatterns: TypeAlias = Annotated[
    tuple[Annotated[str, AfterValidator(check_pattern)], ...],
    BeforeValidator(_listed),
    _one_or_more({"type": "string"}, least=0),
    Kind("path or pattern, or a list of them"),
]
"""Patterns of files, as ``config/includes.py`` reads them."""

Groups: TypeAlias = Annotated[
    tuple[Annotated[str, AfterValidator(_check_group)], ...],
    BeforeValidator(_listed),
    _one_or_more({"type": "string", "pattern": f"^{NAME_PATTERN}$"}, least=0),
    Kind("name, or a list of them"),
]
"""Names of groups."""
Command: TypeAlias = Annotated[
    tuple[Text, ...],
    BeforeValidator(_as_tuple),
    WithJsonSchema({"type": "array", "items": {"type": "string"}}),
    Kind("list of texts"),
]
"""A program and its arguments, or nothing."""
Url: TypeAlias = Annotated[
    str,
    AfterValidator(_check_url),
    Kind("URL"),
]
DataHost: TypeAlias = Annotated[
    str,
    AfterValidator(_check_data_host),
    Kind("`HOST` or `HOST:PORT`"),
]
ProxyUrl: TypeAlias = Annotated[
    str | Literal[False],
    AfterValidator(check_proxy),
    WithJsonSchema(
        {
            "anyOf": [{"type": "string"}, {"const": False}],
            "examples": ["http://proxy.example.com:3128"],
        }
    ),
    Kind("URL, or `false`"),
]
"""A proxy, or False for none."""
OutputFile: TypeAlias = Annotated[
    Path,
    _Read(_read_output, informed=True),
    WithJsonSchema({"type": "string"}),
    Kind("path of a file"),
]
"""A file to write to, which need not be there yet."""
AnyFile: TypeAlias = Annotated[
    Path,
    _Read(_read_output, informed=True),
    WithJsonSchema({"type": "string"}),
    Kind("path of a file"),
]
"""A file for commands, which the daemon cannot always see."""
ExistingFile: TypeAlias = Annotated[
    Path,
    _Read(_read_file, informed=True),
    WithJsonSchema({"type": "string"}),
    Kind("path of a file"),
]
