"""A small evaluator of IAM policies: identity-based ones, as AWS documents them.

Deny beats Allow, and what nothing allows is denied. Conditions that are not known here
are a ConfigError when a policy is read: nothing is taken to match unseen. Pure.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Self

from ssmtunneld.errors import ConfigError


class Decision(StrEnum):
    """The words of IAM's policy simulator."""

    ALLOWED = "allowed"
    EXPLICIT_DENY = "explicitDeny"
    IMPLICIT_DENY = "implicitDeny"


ALLOW_ALL: Final[Mapping[str, Any]] = {
    "Version": "2012-10-17",
    "Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"},
}

_VARIABLE: Final = re.compile(
    r"\$\{(?P<special>[*?$])\}|\$\{(?P<key>[^}',]+)(?:,\s*'(?P<default>[^']*)')?\}"
)
_KEYS: Final = frozenset(
    {
        "Sid",
        "Effect",
        "Action",
        "NotAction",
        "Resource",
        "NotResource",
        "Condition",
    }
)
_ARN_PARTS: Final = 6

Context = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Request:
    """A request whose permission is checked.

    Args:
        action: ``ssm:StartSession``, ...
        resource: Its ARN, or ``*`` for actions that have none.
        context: Condition keys and policy variables with their values.
    """

    action: str
    resource: str
    context: Context

    def value(self, key: str) -> str | None:
        """Return the value of a condition key, whose case does not matter."""
        wanted = key.lower()
        return next((v for k, v in self.context.items() if k.lower() == wanted), None)


class Policy:
    """One policy document, checked.

    Args:
        document: Its JSON.

    Raises:
        ConfigError: It is malformed, or uses what is not known here.
    """

    def __init__(self, document: Mapping[str, Any]) -> None:
        if "Statement" not in document:
            raise ConfigError(["policy: expected an object with a Statement"])
        # Policies of the first version know no variables.
        variables = document.get("Version") == "2012-10-17"
        statements = _listed(document["Statement"])
        self._statements = [_Statement.parse(s, variables) for s in statements]

    def effects(self, request: Request) -> set[str]:
        """Return what the statements that apply to ``request`` say."""
        return {s.effect for s in self._statements if s.applies(request)}


def decide(policies: Iterable[Policy], request: Request) -> Decision:
    """Return what ``policies`` say of ``request``, taken together."""
    effects = {effect for policy in policies for effect in policy.effects(request)}
    if "Deny" in effects:
        return Decision.EXPLICIT_DENY
    return Decision.ALLOWED if effects else Decision.IMPLICIT_DENY


@dataclass(frozen=True, slots=True)
class _Statement:
    effect: str
    actions: tuple[str, ...]
    resources: tuple[str, ...]
    conditions: tuple["_Condition", ...]
    all_but_actions: bool
    all_but_resources: bool
    variables: bool

    @classmethod
    def parse(cls, raw: object, variables: bool) -> Self:  # noqa: FBT001 - two private callers
        if not isinstance(raw, Mapping):
            raise ConfigError(["policy: a statement is not an object"])
        where = f"policy statement {raw.get('Sid', '')!r}"
        if unknown := raw.keys() - _KEYS:
            raise ConfigError([f"{where}: {min(unknown)} is not known here"])
        if raw.get("Effect") not in ("Allow", "Deny"):
            raise ConfigError([f"{where}: Effect is neither Allow nor Deny"])
        return cls(
            effect=raw["Effect"],
            actions=_either(raw, "Action", where),
            resources=_either(raw, "Resource", where),
            conditions=_conditions(raw.get("Condition") or {}, where),
            all_but_actions="NotAction" in raw,
            all_but_resources="NotResource" in raw,
            variables=variables,
        )

    def applies(self, request: Request) -> bool:
        """Say whether the statement speaks of ``request``."""
        action = request.action.lower()
        named = any(_like(_plain(p.lower()), action) for p in self.actions)
        if named is self.all_but_actions:
            return False
        patterns = (self._pattern(p, request) for p in self.resources)
        found = any(_arn_like(p, request.resource) for p in patterns)
        if found is self.all_but_resources:
            return False
        return all(c.holds(request, self._pattern) for c in self.conditions)

    def _pattern(self, text: str, request: Request) -> "_Pattern":
        return _substituted(text, request) if self.variables else _plain(text)


_Pattern = tuple[str, ...] | None
"""A pattern in pieces: characters, of which ``*`` and ``?`` are wildcards, and longer
ones that stand for themselves; None matches nothing."""


def _plain(text: str) -> _Pattern:
    return tuple(text)


def _substituted(text: str, request: Request) -> _Pattern:
    pieces: list[str] = []
    position = 0
    for match in _VARIABLE.finditer(text):
        pieces += text[position : match.start()]
        position = match.end()
        if match["special"]:
            pieces.append(match["special"] + "\0")
            continue
        value = request.value(match["key"].strip())
        value = match["default"] if value is None else value
        if value is None:
            return None  # nobody's: a variable without a value matches nothing
        pieces.append(value + "\0")
    return (*pieces, *text[position:])


def _text(pattern: _Pattern) -> str | None:
    """Return what equals a pattern whose wildcards mean nothing."""
    return None if pattern is None else "".join(p.removesuffix("\0") for p in pattern)


_WILDCARDS: Final = {"*": ".*", "?": "."}


def _like(pattern: _Pattern, text: str) -> bool:
    if pattern is None:
        return False
    words = (_WILDCARDS.get(p, re.escape(p.removesuffix("\0"))) for p in pattern)
    return re.fullmatch("".join(words), text, re.DOTALL) is not None


def _arn_like(pattern: _Pattern, text: str) -> bool:
    """Match part by part: a wildcard does not cross a colon before the last part."""
    if pattern is None or pattern == ("*",):
        return pattern is not None
    wanted: list[list[str]] = [[]]
    for piece in pattern:
        if piece == ":" and len(wanted) < _ARN_PARTS:
            wanted.append([])
        else:
            wanted[-1].append(piece)
    found = text.split(":", _ARN_PARTS - 1)
    return len(wanted) == len(found) and all(
        _like(tuple(p), t) for p, t in zip(wanted, found, strict=True)
    )


_Compare = Callable[[_Pattern, str], bool]


def _equals(pattern: _Pattern, text: str) -> bool:
    return _text(pattern) == text


def _equals_anyhow(pattern: _Pattern, text: str) -> bool:
    wanted = _text(pattern)
    return wanted is not None and wanted.lower() == text.lower()


_OPERATORS: Final[Mapping[str, tuple[_Compare, bool]]] = {
    "StringEquals": (_equals, True),
    "StringNotEquals": (_equals, False),
    "StringEqualsIgnoreCase": (_equals_anyhow, True),
    "StringNotEqualsIgnoreCase": (_equals_anyhow, False),
    "StringLike": (_like, True),
    "StringNotLike": (_like, False),
    "Bool": (_equals_anyhow, True),
    "ArnEquals": (_arn_like, True),
    "ArnLike": (_arn_like, True),
    "ArnNotEquals": (_arn_like, False),
    "ArnNotLike": (_arn_like, False),
}
"""The comparison of each operator, and the meaning of a match."""


@dataclass(frozen=True, slots=True)
class _Condition:
    operator: str
    key: str
    values: tuple[str, ...]
    if_exists: bool

    def holds(
        self, request: Request, pattern: Callable[[str, Request], _Pattern]
    ) -> bool:
        found = request.value(self.key)
        if self.operator == "Null":
            return any((value == "true") is (found is None) for value in self.values)
        compare, wanted = _OPERATORS[self.operator]
        if found is None:
            # What is not there equals nothing.
            return self.if_exists or not wanted
        matches = any(compare(pattern(v, request), found) for v in self.values)
        return matches is wanted


def _conditions(raw: object, where: str) -> tuple[_Condition, ...]:
    if not isinstance(raw, Mapping):
        raise ConfigError([f"{where}: Condition is not an object"])
    found = []
    for name, keys in raw.items():
        operator = name.removesuffix("IfExists")
        if operator not in {*_OPERATORS, "Null"} or not isinstance(keys, Mapping):
            raise ConfigError([f"{where}: condition {name} is not known here"])
        for key, values in keys.items():
            texts = tuple(_word(value, where) for value in _listed(values))
            found.append(_Condition(operator, key, texts, operator != name))
    return tuple(found)


def _either(raw: Mapping[str, Any], name: str, where: str) -> tuple[str, ...]:
    present = [key for key in (name, f"Not{name}") if key in raw]
    if len(present) != 1:
        raise ConfigError([f"{where}: expected either {name} or Not{name}"])
    return tuple(_word(value, where) for value in _listed(raw[present[0]]))


def _word(value: object, where: str) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, str):
        raise ConfigError([f"{where}: {value!r} is not text"])
    return value


def _listed(value: object) -> list[Any]:
    return value if isinstance(value, list) else [value]
