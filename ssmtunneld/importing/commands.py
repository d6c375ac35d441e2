"""``aws ssm start-session``, as it stands in scripts, aliases and notes."""

import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from ssmtunneld.config.session_documents import (
    PORT_DOCUMENT,
    REMOTE_HOST_DOCUMENT,
    SSH_DOCUMENT,
)
from ssmtunneld.importing.found import Found, Settings, remote_host, short, usual_port

_BUILT_IN: Final = (PORT_DOCUMENT, REMOTE_HOST_DOCUMENT, SSH_DOCUMENT)
_SSH_PORT: Final = 22
_VALUES: Final = {
    "--target": "target",
    "--document-name": "document",
    "--parameters": "parameters",
    "--profile": "profile",
    "--region": "region",
    "--endpoint-url": "endpoint_url",
    "--reason": "reason",
    "--ca-bundle": "ca_bundle",
}
_IGNORED_VALUES: Final = frozenset(
    {"--output", "--query", "--color", "--cli-connect-timeout", "--cli-read-timeout"}
)
_IGNORED: Final = frozenset({"--debug", "--no-cli-pager", "--no-paginate"})
_VARIABLE: Final = re.compile(r"\$(?:\{([A-Za-z_]\w*)\}|([A-Za-z_]\w*))")
_TAG: Final = re.compile(r"Name=tag:([^,'\"\s]+),\s*Values=([^,'\"\s\]]+)")
_ALIAS: Final = re.compile(r"(?:alias\s+)?([A-Za-z_][\w.-]*)=(.*)", re.DOTALL)
_ENDS: Final = re.compile(r"[;&|()]+")
_PLACE: Final = re.compile("\x00([0-9]+)\x00")
_EXPANDED: Final = ("target", "host", "profile", "region", "endpoint_url")


@dataclass(slots=True)
class Call:
    """One command line."""

    settings: dict[str, str] = field(default_factory=dict)
    """Of its options, by our names."""
    unknown: list[str] = field(default_factory=list)
    name: str = ""
    """The alias that it stands in."""
    wrapper: str = ""
    """A program in front that chooses the profile: ``aws-vault``."""


def read_commands(text: str) -> Found:
    """Return the tunnels of all ``aws ssm start-session`` lines of a text."""
    found = Found()
    for line, command in _logical_lines(text):
        if "start-session" not in command:
            continue
        calls = list(parse_calls(command))
        if not calls:
            found.note(
                line, "this start-session cannot be read: its quotes do not match"
            )
        for call in calls:
            add_call(found, call, line)
    return found


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield commands with the lines they begin on; a backslash or a quote goes on."""
    waiting, start = "", 0
    for number, line in enumerate(text.splitlines(), 1):
        if not waiting:
            start = number
            if line.lstrip().startswith("#"):
                continue
        waiting += line.removesuffix("\\") + ("" if line.endswith("\\") else "\n")
        if line.endswith("\\") or _is_open(waiting):
            continue
        yield start, waiting
        waiting = ""
    if waiting:
        yield start, waiting


def _is_open(text: str) -> bool:
    """Return True if a quote or a command in parentheses is still open."""
    hidden, _ = _hide(text)
    try:
        shlex.split(hidden, comments=True)
    except ValueError:
        return True
    return "$(" in hidden


def _hide(text: str) -> tuple[str, list[str]]:
    """Return ``text`` with each command substitution replaced by a mark."""
    hidden: list[str] = []
    parts: list[str] = []
    at = 0
    while (start := text.find("$(", at)) >= 0:
        end = _closing(text, start + 2)
        if end < 0:
            break
        parts += [text[at:start], f"\x00{len(hidden)}\x00"]
        hidden.append(text[start + 2 : end])
        at = end + 1
    return "".join([*parts, text[at:]]), hidden


def _closing(text: str, at: int) -> int:
    depth = 1
    for position in range(at, len(text)):
        depth += {"(": 1, ")": -1}.get(text[position], 0)
        if not depth:
            return position
    return -1


def parse_calls(command: str) -> Iterator[Call]:
    """Yield what ``aws ssm start-session`` is called with in a command."""
    text, hidden = _hide(command)
    for words in _simple_commands(text):
        # ``sh -c '...'`` and ``alias x='...'`` have it all in one word.
        for word in words:
            if "start-session" in word and word != "start-session":
                alias = _ALIAS.fullmatch(word)
                inner = alias[2] if alias else word
                for nested in parse_calls(_shown(inner, hidden)):
                    nested.name = nested.name or (alias[1] if alias else "")
                    yield nested
        call = _read_words(words, hidden)
        if call is not None:
            yield call


def _shown(text: str, hidden: Sequence[str]) -> str:
    return _PLACE.sub(lambda match: f"$({hidden[int(match[1])]})", text)


def _simple_commands(text: str) -> Iterator[list[str]]:
    lexer = shlex.shlex(text, posix=True, punctuation_chars=";&|()")
    lexer.whitespace_split = True
    words: list[str] = []
    try:
        for word in lexer:
            if _ENDS.fullmatch(word):
                yield words
                words = []
            else:
                words.append(word)
    except ValueError:
        return
    yield words


def _read_words(words: Sequence[str], hidden: Sequence[str]) -> Call | None:
    at = next((i for i, word in enumerate(words) if _is_aws(word)), None)
    if at is None:
        return None
    rest = list(words[at + 1 :])
    if "start-session" not in rest:
        return None
    call = Call()
    _read_environment(words[:at], call)
    while rest:
        word = rest.pop(0)
        if word.startswith("--"):
            _read_option(word, rest, hidden, call)
    return call


def _read_option(word: str, rest: list[str], hidden: Sequence[str], call: Call) -> None:
    """Read one option, and take its value from ``rest``."""
    option, equals, value = word.partition("=")
    if option not in _VALUES and option not in _IGNORED_VALUES:
        if option not in _IGNORED:
            call.unknown.append(option)
        return
    if not equals:
        value = rest.pop(0) if rest else ""
    if option == "--parameters":
        # Shorthand may be several words: portNumber=22 localPortNumber=2222.
        while rest and not rest[0].startswith("-"):
            value += f",{rest.pop(0)}"
    if option in _VALUES:
        call.settings[_VALUES[option]] = _resolved(value, hidden)


def _is_aws(word: str) -> bool:
    return word.rpartition("/")[2] in {"aws", "aws.exe"}


def _read_environment(words: Sequence[str], call: Call) -> None:
    names = {"AWS_PROFILE": "profile", "AWS_DEFAULT_PROFILE": "profile"}
    names |= {"AWS_REGION": "region", "AWS_DEFAULT_REGION": "region"}
    for word in words:
        name, _, value = word.partition("=")
        if name in names:
            call.settings.setdefault(names[name], value)
    if len(words) >= 3 and words[0] == "aws-vault" and words[1] == "exec":
        call.wrapper = "aws-vault"
        profile = next((w for w in words[2:] if not w.startswith("-")), "")
        call.settings.setdefault("profile", profile)


def _resolved(value: str, hidden: Sequence[str]) -> str:
    """Return a value in which a search by tag has become a target."""
    match = _PLACE.fullmatch(value)
    if match is None:
        return _shown(value, hidden)
    tags = _TAG.findall(hidden[int(match[1])])
    if not tags:
        return _shown(value, hidden)
    return ",".join(f"tag:{key}={wanted}" for key, wanted in tags)


def add_call(found: Found, call: Call, line: int) -> None:
    """Add the tunnel of ``call``, or say why it is none."""
    settings = dict(call.settings)
    document = settings.pop("document", "")
    given = settings.pop("parameters", "")
    for option in call.unknown:
        found.note(line, f"{option} has no equivalent and is left out")
    if not document:
        found.note(line, "this is a shell, not a tunnel: see ssmtunneld ssh")
        return
    try:
        parameters = parse_parameters(given)
        tunnel = _tunnel(settings, document, parameters)
    except ValueError as error:
        found.note(line, str(error))
        return
    if call.wrapper:
        profile = settings.get("profile", "")
        text = f"{call.wrapper} is left out: profile {profile} must have credentials"
        found.note(line, text)
    local = tunnel["listen"]
    if "localPortNumber" not in parameters and "host" not in call.settings:
        found.note(line, f"no localPortNumber: it listens on {local}")
    host = tunnel.get("host")
    usual = short(str(host)) if host else f"port-{tunnel['port'] or document}"
    found.add(call.name or usual, tunnel, line)


def _tunnel(
    settings: Mapping[str, str], document: str, parameters: dict[str, list[str]]
) -> Settings:
    target = settings.get("target", "")
    if not target:
        raise ValueError("this start-session has no --target")
    tunnel: Settings = {**settings}
    rest = dict(parameters)
    port = _number(rest.pop("portNumber", ["22"] if document == SSH_DOCUMENT else []))
    host = (rest.pop("host", None) or [""])[0]
    local = _number(rest.pop("localPortNumber", []))
    if document in _BUILT_IN and port is None:
        raise ValueError(f"{document} needs portNumber")
    tunnel["listen"] = local or usual_port(port or _SSH_PORT)
    tunnel["port"] = port
    tunnel["host"] = remote_host(host)
    if document not in _BUILT_IN:
        tunnel["document"] = document
        tunnel["parameters"] = rest or None
    for key in _EXPANDED:
        if isinstance(value := tunnel.get(key), str):
            tunnel[key] = _with_variables(key, value)
    return tunnel


def _number(values: Sequence[str]) -> int | None:
    text = values[0] if values else ""
    if not text or text == "0":
        return None
    if not re.fullmatch("[0-9]{1,5}", text):
        raise ValueError(f"{text} is not a fixed port number")
    return int(text)


def _with_variables(key: str, text: str) -> str:
    """Return ``text`` with variables as a file spells them."""
    if "$(" in text or "`" in text:
        raise ValueError(
            f"{key} is a command substitution, {text}: write a target such as "
            "tag:Name=bastion instead"
        )
    return _VARIABLE.sub(lambda match: f"${{{match[1] or match[2]}}}", text)


def parse_parameters(text: str) -> dict[str, list[str]]:
    """Return document parameters in JSON or in the AWS CLI's shorthand.

    Raises:
        ValueError: They are neither.
    """
    stripped = text.strip()
    if not stripped:
        return {}
    if stripped.startswith("{"):
        return _from_json(stripped)
    if stripped.startswith("file://"):
        raise ValueError(f"--parameters are in {stripped}: write its content instead")
    found: dict[str, list[str]] = {}
    for key, listed, quoted, single in _SHORTHAND.findall(stripped):
        values = [v.strip("\"' ") for v in listed.split(",")] if listed else []
        found[key] = values or [quoted or single]
    if not found or _SHORTHAND.sub("", stripped).strip(", "):
        raise ValueError(f"--parameters cannot be read: {stripped}")
    return found


_SHORTHAND: Final = re.compile(
    r"([A-Za-z]\w*)=(?:\[([^\]]*)\]|\"([^\"]*)\"|([^,\s]*))[,\s]*"
)


def _from_json(text: str) -> dict[str, list[str]]:
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError(f"--parameters are not JSON: {text}") from None
    return {
        str(key): [str(v) for v in (value if isinstance(value, list) else [value])]
        for key, value in data.items()
    }
