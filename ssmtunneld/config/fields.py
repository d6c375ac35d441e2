"""The types of single settings: how they are read, checked, written and described."""

import re
from ipaddress import IPv4Network, IPv6Network, ip_address
from pathlib import Path
from typing import Annotated, Final, Literal, TypeAlias

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainSerializer,
    PlainValidator,
    ValidationInfo,
    WithJsonSchema,
)

from ssmtunneld.config.values import (
    Address,
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

NAME_PATTERN: Final = "[a-z0-9][a-z0-9_-]{0,62}"
_DOCUMENT: Final = re.compile(r"[a-zA-Z0-9_\-.:/]{3,128}")  # protocol 1.2
_REGION: Final = re.compile(r"[a-z]{2,6}(-[a-z]+)+-[0-9]{1,2}")
_HOST_NAME: Final = re.compile(
    r"(?=.{1,253}$)[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9.])?"
)
_HOST_PORT: Final = re.compile(r"([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?")
# Protocol 1.3: EC2, hybrid, and ECS cluster_task_container-runtime.
_TARGET: Final = re.compile(
    r"i-(?:[0-9a-f]{8}|[0-9a-f]{17})|mi-[0-9a-f]{17}"
    r"|ecs:[A-Za-z0-9_-]{1,255}_[A-Za-z0-9-]{1,64}_[A-Za-z0-9-]{1,128}"
)


def _check_name(name: str) -> str:
    if not re.fullmatch(NAME_PATTERN, name):
        raise ValueError(
            "is not a tunnel's name: up to 63 of a-z, 0-9, - and _, "
            "starting with a letter or digit"
        )
    return name


def _check_target(target: str) -> str:
    if not _TARGET.fullmatch(target):
        raise ValueError(
            "is not a target: only ids (i-..., mi-..., ecs:cluster_task_runtime) "
            "are understood by this version"
        )
    return target


def _check_document(document: str) -> str:
    if not _DOCUMENT.fullmatch(document):
        raise ValueError("is not a document's name: 3 to 128 of a-z A-Z 0-9 _ - . : /")
    return document


def _check_region(region: str) -> str:
    if not _REGION.fullmatch(region):
        raise ValueError('is not a region: write it like "eu-west-1"')
    return region


def _check_host(host: str) -> str:
    try:
        ip_address(host)
    except ValueError:
        if not _HOST_NAME.fullmatch(host):
            raise ValueError(
                "is not a host: write a name or an IP address, and its port in port"
            ) from None
    return host


def _check_text(text: str) -> str:
    if not text.isprintable():
        raise ValueError("should be one line of printable text")
    return text


def _check_url(url: str) -> str:
    # Nothing of the value goes into the message: a URL may carry a password.
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
    """Let one value stand for a list of one."""
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
    if not path.is_file():
        raise ValueError("is not a file (paths start at the configuration's directory)")
    return path


Duration: TypeAlias = Annotated[
    float,
    BeforeValidator(parse_duration),
    PlainSerializer(format_duration, when_used="json"),
    WithJsonSchema({"type": ["string", "number"], "examples": ["30s", "1h30m", 2.5]}),
]
"""Seconds; ``"1h30m"`` in a file."""

KeepAlive: TypeAlias = Annotated[
    float | Literal[False],
    PlainValidator(parse_keep_alive),
    # Without a type to return, False stays False and does not become 0.0.
    PlainSerializer(format_keep_alive, return_type=object, when_used="json"),
    WithJsonSchema(
        {
            "anyOf": [{"type": ["string", "number"]}, {"const": False}],
            "examples": ["5m"],
        }
    ),
]
"""Seconds, or False for none."""

Size: TypeAlias = Annotated[
    int,
    BeforeValidator(parse_size),
    PlainSerializer(format_size, when_used="json"),
    WithJsonSchema({"type": ["string", "integer"], "examples": ["64KiB", "8MiB"]}),
]
"""Bytes; ``"8MiB"`` in a file."""

Mode: TypeAlias = Annotated[
    int,
    PlainValidator(_read_mode),
    PlainSerializer(format_mode, when_used="json"),
    WithJsonSchema({"type": "string", "pattern": "^(0o)?0?[0-7]{3}$"}),
]
"""Permission bits; ``"0600"`` in a file."""

_ListenAddress: TypeAlias = Annotated[
    Address,
    PlainValidator(_read_address),
    PlainSerializer(str, when_used="json"),
    WithJsonSchema({"type": ["string", "integer"]}),
]
_Network: TypeAlias = Annotated[
    IPv4Network | IPv6Network,
    PlainValidator(parse_network),
    PlainSerializer(str, when_used="json"),
    WithJsonSchema({"type": "string", "examples": ["10.0.0.0/8"]}),
]
_ParameterText: TypeAlias = Annotated[str, Field(min_length=1, max_length=65535)]
_ParameterValues: TypeAlias = Annotated[
    tuple[_ParameterText, ...], BeforeValidator(_listed), Field(min_length=1)
]


def _one_or_more(item: dict[str, object]) -> WithJsonSchema:
    several = {"type": "array", "items": item, "minItems": 1}
    return WithJsonSchema({"anyOf": [item, several]})


Listen: TypeAlias = Annotated[
    tuple[_ListenAddress, ...],
    BeforeValidator(_listed),
    Field(min_length=1),
    _one_or_more({"type": ["string", "integer"]}),
]
Networks: TypeAlias = Annotated[
    tuple[_Network, ...],
    BeforeValidator(_as_tuple),
    WithJsonSchema({"type": "array", "items": {"type": "string"}}),
]
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
]
Name: TypeAlias = Annotated[str, AfterValidator(_check_name)]
Target: TypeAlias = Annotated[str, AfterValidator(_check_target)]
Document: TypeAlias = Annotated[str, AfterValidator(_check_document)]
Region: TypeAlias = Annotated[str, AfterValidator(_check_region)]
HostName: TypeAlias = Annotated[str, AfterValidator(_check_host)]
Text: TypeAlias = Annotated[str, Field(min_length=1), AfterValidator(_check_text)]
Url: TypeAlias = Annotated[str, AfterValidator(_check_url)]
DataHost: TypeAlias = Annotated[str, AfterValidator(_check_data_host)]
ExistingFile: TypeAlias = Annotated[
    Path, PlainValidator(_read_file), WithJsonSchema({"type": "string"})
]
