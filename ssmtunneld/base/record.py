"""Frozen value classes that cost little to import.

``@dataclass(frozen=True, slots=True)`` makes each class twice and compiles six methods
for it, 0.4 ms a class: a tenth of what a command that carries one connection takes. A
:class:`Record` is the same to those who use it, to type checkers, and to the functions
of ``dataclasses``. Its class is made once, its ``__init__`` when its first instance is,
and all else is shared.
"""

import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, FrozenInstanceError, field, make_dataclass
from functools import cache
from operator import attrgetter
from typing import Any, ClassVar, Final, NoReturn, dataclass_transform

from typing_extensions import override

if sys.version_info >= (3, 14):
    import annotationlib

    # A type can have a name that only type checkers import.
    _UNRESOLVED: Final = annotationlib.Format.FORWARDREF

_DEFAULTS: Final = "_record_defaults"


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
class _RecordType(type):
    """Gives a class a slot for each field, and keeps the defaults beside them."""

    def __new__(
        cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any]
    ) -> "_RecordType":
        names = _annotated(namespace) if bases else ()
        # A slot and an attribute of the class cannot have one name.
        defaults = {key: namespace.pop(key) for key in names if key in namespace}
        namespace |= {"__slots__": names, "__match_args__": names, _DEFAULTS: defaults}
        return super().__new__(cls, name, bases, namespace)


class _Fields:
    """The fields as ``dataclasses`` has them, made when it asks for them."""

    def __get__(self, _: object, owner: type) -> dict[str, Field[Any]]:
        return _fields(owner)


class Record(metaclass=_RecordType):
    """Base of a class whose annotated names are its fields: frozen, with slots.

    A field can have a default, or a ``field()`` with ``default``, ``default_factory``,
    ``compare`` and ``repr``. Records are not derived from each other.
    """

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]] = _Fields()  # type: ignore[assignment]  # becomes one

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # Only for the first instance.
        cls: Any = type(self)
        cls.__init__ = _make_init(cls)
        cls.__init__(self, *args, **kwargs)

    @override
    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise FrozenInstanceError(f"cannot assign to field {name!r}")

    @override
    def __delattr__(self, name: str) -> NoReturn:
        raise FrozenInstanceError(f"cannot delete field {name!r}")

    @override
    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        values = _comparable(type(self))
        return bool(values(self) == values(other))

    @override
    def __hash__(self) -> int:
        return hash(_comparable(type(self))(self))

    @override
    def __repr__(self) -> str:
        shown = _names(type(self), "repr")
        told = ", ".join(f"{name}={getattr(self, name)!r}" for name in shown)
        return f"{type(self).__qualname__}({told})"

    @override
    def __reduce__(self) -> tuple[type, tuple[object, ...]]:
        names: tuple[str, ...] = type(self).__match_args__
        return type(self), tuple(getattr(self, name) for name in names)


def _annotated(namespace: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the annotated names of a class that is being made."""
    if sys.version_info >= (3, 14) and "__annotations__" not in namespace:
        annotate = annotationlib.get_annotate_from_class_namespace(namespace)
        names = annotate and annotationlib.call_annotate_function(annotate, _UNRESOLVED)
        return tuple(names or ())
    return tuple(namespace.get("__annotations__", ()))


def _types(cls: type) -> Mapping[str, Any]:
    if sys.version_info >= (3, 14):
        return annotationlib.get_annotations(cls, format=_UNRESOLVED)
    return inspect.get_annotations(cls)


def _defaults(cls: type) -> dict[str, Any]:
    found: dict[str, Any] = getattr(cls, _DEFAULTS)
    return found


def _names(cls: Any, aspect: str) -> list[str]:  # noqa: ANN401 - any record's class
    """Return the fields of which ``aspect``, a parameter of ``field()``, is true."""
    given = {key: d for key, d in _defaults(cls).items() if isinstance(d, Field)}
    return [n for n in cls.__match_args__ if getattr(given.get(n), aspect, True)]


@cache
def _comparable(cls: type) -> Callable[[object], object]:
    """Return a function that returns what makes an instance equal to another one."""
    names = _names(cls, "compare")
    return attrgetter(*names) if names else lambda _: ()


@cache
def _fields(cls: Any) -> dict[str, Field[Any]]:  # noqa: ANN401 - any record's class
    types = _types(cls)
    defaults = _defaults(cls)
    given = [
        (name, types[name], defaults[name]) if name in defaults else (name, types[name])
        for name in cls.__match_args__
    ]
    like = make_dataclass(cls.__name__, given, init=False, repr=False, eq=False)
    found: dict[str, Field[Any]] = getattr(like, "__dataclass_fields__")  # noqa: B009 - not of every class
    return found


def _make_init(cls: Any) -> Callable[..., None]:  # noqa: ANN401 - any record's class
    """Compile what fills the slots: a loop over them takes several times as long."""
    scope: dict[str, Any] = {"unset": MISSING}
    parameters, lines = ["self"], ["    pass"]
    for name in cls.__match_args__:
        default, factory = _default_of(cls, name)
        value = name
        if factory is not MISSING:
            value = f"make_{name}() if {name} is unset else {name}"
        required = default is MISSING and factory is MISSING
        parameters.append(name if required else f"{name}=default_{name}")
        lines.append(f"    set_{name}(self, {value})")
        scope |= {
            f"set_{name}": getattr(cls, name).__set__,
            f"default_{name}": default,
            f"make_{name}": factory,
        }
    source = "\n".join([f"def __init__({', '.join(parameters)}):", *lines])
    exec(source, scope)  # noqa: S102 - made of names that are in our source
    init: Callable[..., None] = scope["__init__"]
    init.__qualname__ = f"{cls.__qualname__}.__init__"
    return init


def _default_of(cls: type, name: str) -> tuple[object, object]:
    """Return the default of a field, and the factory of defaults; ``MISSING`` if none.

    At most one of them is there.
    """
    default = _defaults(cls).get(name, MISSING)
    if isinstance(default, Field):
        return default.default, default.default_factory
    return default, MISSING
