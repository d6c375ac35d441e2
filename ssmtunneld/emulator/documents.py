"""Session documents of type Port (protocol 1.2): AWS's own, and custom ones."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from ssmtunneld.config.session_documents import (
    PORT_DOCUMENT,
    REMOTE_HOST_DOCUMENT,
    SSH_DOCUMENT,
)
from ssmtunneld.errors import ConfigError

_PORT: Final = (
    "([1-9]|[1-9][0-9]{1,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}"
    "|655[0-2][0-9]|6553[0-5])"
)
_PORT_NUMBER: Final = {
    "type": "String",
    "default": "80",
    "allowedPattern": f"^{_PORT}$",
}
_LOCAL_PORT_NUMBER: Final = {
    "type": "String",
    "default": "0",
    "allowedPattern": f"^(0|{_PORT})$",
}
_FORWARDING: Final = {
    "portNumber": "{{ portNumber }}",
    "type": "LocalPortForwarding",
    "localPortNumber": "{{ localPortNumber }}",
}

BUILT_IN: Final[Mapping[str, Mapping[str, Any]]] = {
    PORT_DOCUMENT: {
        "schemaVersion": "1.0",
        "sessionType": "Port",
        "parameters": {
            "portNumber": _PORT_NUMBER,
            "localPortNumber": _LOCAL_PORT_NUMBER,
        },
        "properties": _FORWARDING,
    },
    REMOTE_HOST_DOCUMENT: {
        "schemaVersion": "1.0",
        "sessionType": "Port",
        "parameters": {
            "portNumber": _PORT_NUMBER,
            "localPortNumber": _LOCAL_PORT_NUMBER,
            # The real default and pattern are not known (protocol 9, item 11).
            "host": {
                "type": "String",
                "default": "localhost",
                "allowedPattern": r"^[^,$^&()!;'\"<>`{}\[\]|#=\s]{3,}$",
            },
        },
        "properties": {**_FORWARDING, "host": "{{ host }}"},
    },
    SSH_DOCUMENT: {
        "schemaVersion": "1.0",
        "sessionType": "Port",
        "parameters": {"portNumber": {**_PORT_NUMBER, "default": "22"}},
        "properties": {"portNumber": "{{ portNumber }}"},
    },
}
"""AWS's documents, in the form in which they are published."""


class ParameterRefused(Exception):
    """A parameter of StartSession is unknown or does not match its pattern."""


@dataclass(frozen=True, slots=True)
class _Parameter:
    default: str | None
    pattern: str | None


@dataclass(frozen=True, slots=True)
class Document:
    """One session document."""

    name: str
    parameters: Mapping[str, _Parameter]
    templates: Mapping[str, str]

    @classmethod
    def parse(cls, name: str, content: Mapping[str, Any]) -> Self:
        """Read ``content``, the JSON of a session document.

        Raises:
            ConfigError: It is not a session document of type Port.
        """
        try:
            if content["sessionType"] != "Port":
                raise ConfigError([f"document {name}: sessionType is not Port"])
            parameters = {
                key: _Parameter(entry.get("default"), entry.get("allowedPattern"))
                for key, entry in content.get("parameters", {}).items()
            }
            templates = {k: str(v) for k, v in content["properties"].items()}
        except (KeyError, AttributeError, TypeError) as error:
            raise ConfigError([f"document {name}: {error!r}"]) from None
        return cls(name, parameters, templates)

    def properties(self, given: Mapping[str, list[str]]) -> dict[str, str]:
        """Return the properties that reach the agent.

        Raises:
            ParameterRefused: A parameter is unknown, missing or malformed.
        """
        for name in given:
            if name not in self.parameters:
                raise ParameterRefused(f"{name} is not a parameter of {self.name}")
        values = {name: self._value(name, given) for name in self.parameters}

        def substitute(match: re.Match[str]) -> str:
            return values.get(match[1], match[0])

        return {
            key: re.sub(r"\{\{ *(\w+) *\}\}", substitute, template)
            for key, template in self.templates.items()
        }

    def _value(self, name: str, given: Mapping[str, list[str]]) -> str:
        parameter = self.parameters[name]
        listed = given.get(name)
        value = parameter.default if listed is None else "".join(listed[:1])
        if value is None:
            raise ParameterRefused(f"{name} is required by {self.name}")
        if parameter.pattern is not None and not re.search(parameter.pattern, value):
            raise ParameterRefused(
                f"Parameter {name} has value {value!r}, which does not match the "
                f"pattern {parameter.pattern}"
            )
        return value
