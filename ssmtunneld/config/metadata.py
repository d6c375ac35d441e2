"""Facts about a setting that its type does not tell, declared with the field itself.

A field of ``DaemonSettings``, ``TunnelDefaults`` or ``Tunnel`` is written like this::

    region: Annotated[Region | None, Reload.SESSIONS, EXPANDS] = None

and ``settings_of`` returns all that is known of it. The reload, the JSON schema and the
tables in ``docs/configuration.md`` are made from that.
"""

import inspect
import json
import re
from collections.abc import Callable, Iterator, Sequence
from enum import Enum
from functools import cache
from itertools import pairwise
from textwrap import dedent
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from ssmtunneld.base.record import Record


class Reload(Enum):
    """The effect that a changed setting has on a running daemon (design D12)."""

    LIVE = "live"
    LISTENERS = "listeners"
    SESSIONS = "sessions"
    TUNNEL = "tunnel"
    COMMANDS = "commands"


class Only(Enum):
    """The tunnels that a setting is for; without one of these, all."""

    FIXED = '`mode = "tcp"`'
    """All connections have one destination."""
    DYNAMIC = '`mode = "socks5"` and `"http-connect"`'
    """Clients name the destination."""
    INSTANCE = "EC2 instances, without `host`"
    """The destination is the target itself, and the target an EC2 instance."""


class Expands(Record):
    """Mark of a setting in which ``${NAME}`` stands for an environment variable."""


EXPANDS: Final = Expands()


class Relative(Record):
    """Mark of a path that starts from the folder of the file that says it."""


RELATIVE: Final = Relative()


class Kind(Record):
    """Name of a type for people: ``duration``.

    Attributes:
        text: As it stands in the documentation.
        spell: Returns a bound of the type as a person writes it.
    """

    text: str
    spell: Callable[[Any], object] = str


class Setting(Record):
    """All that is known of one setting.

    Attributes:
        key: The name in the file.
        kind: The type, for people.
        default: As a person writes it, in JSON; None if there is none.
        required: True if it has no default and must be given.
        reload: The effect of a change; None if it is not declared.
        only: The tunnels that it is for; None for all.
        expands: True if ``${NAME}`` is replaced in it.
        description: Markdown; links are relative to ``docs/``.
    """

    key: str
    kind: str
    default: str | None
    required: bool
    reload: Reload | None
    only: Only | None
    expands: bool
    description: str

    @property
    def plain_description(self) -> str:
        """The description without links, for readers who have no ``docs/``."""
        return _LINK.sub(r"\1", _REFERENCE.sub("", self.description))


_REFERENCE: Final = re.compile(r" See \[[^]]*\]\([^)]*\)\.")
_LINK: Final = re.compile(r"\[([^]]*)\]\([^)]*\)")


def settings_of(model: type[BaseModel]) -> tuple[Setting, ...]:
    """Return the settings of a section of the file, in the order of its fields."""
    given = {
        key for key, field in model.model_fields.items() if not field.is_required()
    }
    usual = model.model_construct().model_dump(mode="json", include=given)
    return tuple(
        Setting(
            key=key,
            kind=_kind(field.annotation, field.metadata),
            default=None if (value := usual.get(key)) is None else json.dumps(value),
            required=field.is_required(),
            reload=reload_of(model, key),
            only=_only(model, key),
            expands=EXPANDS in _marks(model, key),
            description=_description(model, key),
        )
        for key, field in model.model_fields.items()
    )


def reload_of(model: type[BaseModel], key: str) -> Reload | None:
    """Return the effect of a change of one setting; None if it is not declared."""
    return next((m for m in _marks(model, key) if isinstance(m, Reload)), None)


def keys_for(model: type[BaseModel], *groups: Only) -> frozenset[str]:
    """Return the settings of ``model`` that are only for one of ``groups``."""
    return frozenset(key for key in model.model_fields if _only(model, key) in groups)


def expanding_keys(model: type[BaseModel]) -> tuple[str, ...]:
    """Return the settings of ``model`` in which ``${NAME}`` is replaced."""
    return tuple(k for k in model.model_fields if EXPANDS in _marks(model, k))


def path_keys(model: type[BaseModel]) -> tuple[str, ...]:
    """Return the settings of ``model`` whose relative paths depend on their file."""
    return tuple(k for k in model.model_fields if RELATIVE in _marks(model, k))


def _only(model: type[BaseModel], key: str) -> Only | None:
    return next((m for m in _marks(model, key) if isinstance(m, Only)), None)


def _fields(model: type[BaseModel], key: str) -> Iterator[FieldInfo]:
    # A section that narrows the type of an inherited setting need not repeat the rest.
    for section in model.__mro__:
        if issubclass(section, BaseModel) and key in section.model_fields:
            yield section.model_fields[key]


def _marks(model: type[BaseModel], key: str) -> list[object]:
    return [mark for field in _fields(model, key) for mark in field.metadata]


def _description(model: type[BaseModel], key: str) -> str:
    texts = (_docstrings(section).get(key) for section in model.__mro__)
    return " ".join(next(filter(None, texts), "").split())


@cache
def _docstrings(section: type) -> dict[str, str]:
    """Return the docstrings of a section's own fields.

    pydantic can do that too, but it reads the source whenever a daemon starts.
    """
    import ast  # noqa: PLC0415 - only documentation and schemas need it

    if not issubclass(section, BaseModel) or section is BaseModel:
        return {}
    (found,) = ast.parse(dedent(inspect.getsource(section))).body
    assert isinstance(found, ast.ClassDef), "the source of a class is one"
    docstrings = {}
    for field, text in pairwise(found.body):
        match field, text:
            case (
                ast.AnnAssign(target=ast.Name(id=key)),
                ast.Expr(value=ast.Constant(value=str(words))),
            ):
                docstrings[key] = words
            case _:
                pass
    return docstrings


def _kind(annotation: object, marks: Sequence[object]) -> str:
    """Return the name of a type for people, with its bounds."""
    flat = [
        mark
        for outer in marks
        for mark in (outer.metadata if isinstance(outer, FieldInfo) else [outer])
    ]
    kind = next((mark for mark in flat if isinstance(mark, Kind)), None)
    if kind is not None:
        return kind.text + _bounds(kind, flat)
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _kind(inner[0], inner[1:])
    if origin in {Union, UnionType}:
        return ", or ".join(_kind(part, flat) for part in inner if part is not NoneType)
    if origin is Literal:
        return ", ".join(f"`{json.dumps(value)}`" for value in inner)
    assert isinstance(annotation, type), "a type that nobody has given a name"
    plain = _PLAIN[annotation]
    return plain.text + _bounds(plain, flat)


_PLAIN: Final = {
    bool: Kind("`true`, `false`"),
    int: Kind("integer"),
    float: Kind("number"),
    str: Kind("text"),
}


def _bounds(kind: Kind, marks: Sequence[object]) -> str:
    found = (
        (word, getattr(mark, name, None)) for mark in marks for name, word in _BOUNDS
    )
    return "".join(
        f" {word} {kind.spell(bound)}" for word, bound in found if bound is not None
    )


# Names in annotated-types, which pydantic keeps the bounds of a field in.
_BOUNDS: Final = (("gt", "above"), ("ge", "from"), ("le", "to"))
