"""``aws ssm start-session``, as it stands in scripts, aliases and notes."""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from ssmtunneld.config.session_documents import (
    PORT_DOCUMENT,
    REMOTE_HOST_DOCUMENT,
    SSH_DOCUMENT,
)
from ssmtunneld.importing.found import (
    Found,
    Note,
    Settings,
    remote_host,
    short,
    usual_port,
)
from ssmtunneld.importing.shell import Command, read_shell
from ssmtunneld.importing.variables import Variables, brief, is_open, tag_search

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
_ENVIRONMENT: Final = {
    "profile": ("AWS_PROFILE", "AWS_DEFAULT_PROFILE"),
    "region": ("AWS_REGION", "AWS_DEFAULT_REGION"),
}
"""Variables that say the same as an option; the first that is set counts."""
_VARIABLES: Final = frozenset(name for each in _ENVIRONMENT.values() for name in each)
_FRONT: Final = re.compile(
    rf"(?:-e|--env=|Environment=)?({'|'.join(sorted(_VARIABLES))})=(.*)", re.DOTALL
)
_PROGRAM: Final = re.compile(
    r"(?:[@-]+|.*[/\\])?aws(?:2|v2|cli|-cli)?(?:\.exe|\.cmd)?(?:[:@].*)?"
)
_ALIAS: Final = re.compile(r"([A-Za-z_][\w.-]*)=(.*)", re.DOTALL)
_CONTAINERS: Final = frozenset({"docker", "podman", "nerdctl", "finch"})
_DEEPEST: Final = 10
_EXPANDED: Final = ("target", "host", "profile", "region", "endpoint_url")


@dataclass(slots=True)
class Call:
    """One command line."""

    line: int = 0
    settings: dict[str, str] = field(default_factory=dict)
    """Of its options and its environment, by our names."""
    unknown: list[str] = field(default_factory=list)
    name: str = ""
    """The alias that it stands in."""
    wrapper: str = ""
    """A program in front that chooses the profile: ``aws-vault``."""
    container: str = ""
    """A program in front that runs the AWS CLI elsewhere: ``docker``."""
    notes: list[Note] = field(default_factory=list)
    """About the variables that it uses."""
    shown: Callable[[str], str] = str
    """Spells the substitutions in a value of its parameters."""


def read_commands(text: str) -> Found:
    """Return the tunnels of all ``aws ssm start-session`` lines of a text."""
    found = Found()
    said: set[str] = set()
    reader = _Reader()
    for call in reader.calls(text):
        added = add_call(found, call)
        for note in call.notes:
            # A call that is none has said what it lacks.
            if note.text not in said and (added or note.line != call.line):
                said.add(note.text)
                found.note(note.line, note.text)
    found.notes += reader.unread
    return found


def parse_calls(command: str, line: int = 0) -> list[Call]:
    """Return what ``aws ssm start-session`` is called with in a command."""
    return list(_Reader().calls(command, line))


class _Reader:
    """Calls in a script, with the variables that hold where they stand."""

    def __init__(self) -> None:
        self._variables = Variables()
        self.unread: list[Note] = []
        """Lines that name start-session, but have no call that can be read."""

    def calls(self, text: str, line: int = 1, depth: int = 0) -> Iterator[Call]:
        """Yield the calls of ``text``, which begins on line ``line``."""
        for command in read_shell(text, line):
            if "start-session" in command.unread:
                told = "this start-session cannot be read: its quotes do not match"
                self.unread.append(Note(command.line, told))
            else:
                yield from self._calls_of(command, depth)
            self._variables.follow(command)

    def _calls_of(self, command: Command, depth: int) -> Iterator[Call]:
        notes: list[Note] = []
        words = self._spliced(command, notes)
        call = self._read_words(words, command)
        if call is not None:
            call.notes[:0] = notes
            yield call
        nested = 0
        for inner, line, name in _inner_texts(words, command):
            if depth < _DEEPEST:
                for each in self.calls(inner, line, depth + 1):
                    each.name = each.name or name
                    nested += 1
                    yield each
        if call is None and not nested and "start-session" in words:
            told = "start-session stands here, but the AWS CLI is not in front of it"
            self.unread.append(Note(command.line, told))

    def _spliced(self, command: Command, notes: list[Note]) -> list[str]:
        """Return the words, with those that variables hold several of."""
        words: list[str] = []
        for word in command.words:
            if word.startswith("$"):
                words += self._variables.items(word, notes)
            else:
                words.append(word)
        return words if "start-session" in words else list(command.words)

    def _read_words(self, words: Sequence[str], command: Command) -> Call | None:
        if "start-session" not in words:
            return None
        start = words.index("start-session")
        at = _program(words[:start])
        if at is None:
            return None
        call = Call(command.line)
        rest = list(words[at + 1 :])
        while rest:
            word = rest.pop(0)
            if word.startswith("--"):
                _read_option(word, rest, call)
        call.shown = command.shown
        for key, value in call.settings.items():
            text = self._text(value, command, call)
            # In parameters substitutions stay marks, which no comma or quote breaks.
            call.settings[key] = text if key == "parameters" else command.shown(text)
        self._read_front(words[:at], command, call)
        return call

    def _read_front(self, words: Sequence[str], command: Command, call: Call) -> None:
        """Read what stands in front of the program, and before in the script."""
        call.container = next((w for w in words if w in _CONTAINERS), "")
        vault = _vault_profile(words)
        call.wrapper = "" if vault is None else "aws-vault"
        fronts = [m for word in words if (m := _FRONT.fullmatch(word))]
        given = {match[1]: match[2] for match in fronts}
        # A container has of the environment only what it is given.
        passed = _VARIABLES.intersection(words) if call.container else _VARIABLES
        for key, names in _ENVIRONMENT.items():
            values = [given.get(name, "") for name in names]
            values.append((vault or "") if key == "profile" else "")
            usable = (n for n in names if n in passed and n in self._variables)
            values += [f"${{{name}}}" for name in usable]
            value = next(filter(None, values), "")
            if value and key not in call.settings:
                text = self._text(value, command, call)
                call.settings[key] = command.shown(text)

    def _text(self, word: str, command: Command, call: Call) -> str:
        tags = tag_search(word, command)
        return self._variables.expand(tags or word, call.line, call.notes)


def _inner_texts(
    words: Sequence[str], command: Command
) -> Iterator[tuple[str, int, str]]:
    """Yield texts that are commands themselves: text, line, name of the alias."""
    aliases = words[:1] == ["alias"]
    for number, word in enumerate(words):
        # ``sh -c '...'`` and ``alias x='...'`` have it all in one word.
        if "start-session" in word and len(word.split()) > 1:
            match = _ALIAS.fullmatch(word) if aliases or not number else None
            if match is not None and not match[1].upper().startswith("AWS_"):
                yield command.shown(match[2]), command.line, match[1]
            else:
                yield command.shown(word), command.line, ""
        for part in command.substitutions(word):
            if "start-session" in part.inner and "start-session" not in word:
                yield part.inner, part.line, ""


def _program(words: Sequence[str]) -> int | None:
    """Return where the AWS CLI, or the image that has it, stands in front of ssm."""
    contained = any(word in _CONTAINERS for word in words)
    known = [i for i, word in enumerate(words) if _PROGRAM.fullmatch(word)]
    if known and not contained:
        return known[0]
    if not words or words[-1] != "ssm":
        return None
    # Back over the options of the AWS CLI: any image, and $AWS, may have it.
    at = len(words) - 2
    while at > 0 and (size := _options_before(words, at)):
        at -= size
    if at >= 0 and words[at].startswith("--") and known:
        at = known[-1]
    return at if at >= 0 and (contained or words[at].startswith("$")) else None


def _options_before(words: Sequence[str], at: int) -> int:
    """Return how many words up to ``at`` are one option of the AWS CLI."""
    options = {*_VALUES, *_IGNORED_VALUES}
    if (
        words[at].partition("=")[0] in {*options, *_IGNORED}
        and words[at] not in options
    ):
        return 1
    return 2 if words[at - 1] in options else 0


def _vault_profile(words: Sequence[str]) -> str | None:
    """Return the profile that aws-vault is called with; None without aws-vault."""
    for at, word in enumerate(words[:-1]):
        if word.rpartition("/")[2] == "aws-vault" and words[at + 1] == "exec":
            return next((w for w in words[at + 2 :] if not w.startswith("-")), "")
    return None


def _read_option(word: str, rest: list[str], call: Call) -> None:
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
        call.settings[_VALUES[option]] = value


def add_call(found: Found, call: Call) -> bool:
    """Add the tunnel of ``call``, or say why it is none; return True if it is one."""
    line = call.line
    settings = dict(call.settings)
    document = settings.pop("document", "")
    given = settings.pop("parameters", "")
    for option in call.unknown:
        found.note(line, f"{option} has no equivalent and is left out")
    if not document:
        found.note(line, "this is a shell, not a tunnel: see ssmtunneld ssh")
        return False
    try:
        parameters = {
            key: [call.shown(value) for value in values]
            for key, values in parse_parameters(given).items()
        }
        tunnel = _tunnel(settings, document, parameters)
    except ValueError as error:
        found.note(line, f"no tunnel: {call.shown(str(error))}")
        return False
    if call.container:
        text = f"{call.container} is left out: the daemon opens the session itself"
        found.note(line, text)
    if call.wrapper:
        profile = settings.get("profile", "")
        text = f"{call.wrapper} is left out: profile {profile} must have credentials"
        found.note(line, text)
    local = tunnel["listen"]
    if "localPortNumber" not in parameters and "host" not in call.settings:
        text = (
            f"no localPortNumber: it listens on {local}, or the next port that is free"
        )
        found.note(line, text)
    host = tunnel.get("host")
    usual = short(str(host)) if host else f"port-{tunnel['port'] or document}"
    found.add(call.name or usual, tunnel, line)
    return True


def _tunnel(
    settings: Mapping[str, str], document: str, parameters: dict[str, list[str]]
) -> Settings:
    target = settings.get("target", "")
    if not target:
        raise ValueError("this start-session has no --target")
    tunnel: Settings = {**settings}
    rest = dict(parameters)
    rest.setdefault("portNumber", ["22"] if document == SSH_DOCUMENT else [])
    port = _port_number(rest, "portNumber")
    host = (rest.pop("host", None) or [""])[0]
    local = _port_number(rest, "localPortNumber")
    if document in _BUILT_IN and port is None:
        raise ValueError(f"{document} needs portNumber")
    tunnel["listen"] = local or usual_port(port or _SSH_PORT)
    tunnel["port"] = port
    tunnel["host"] = remote_host(host)
    if document not in _BUILT_IN:
        tunnel["document"] = document
        tunnel["parameters"] = rest or None
    for key, value in tunnel.items():
        if isinstance(value, str):
            check_known(key, value)
    for key, values in rest.items():
        for value in values:
            check_known(key, value)
    return tunnel


def _port_number(parameters: dict[str, list[str]], key: str) -> int | None:
    """Take a port out of ``parameters``; None if they have none, or any.

    Raises:
        ValueError: It is no number.
    """
    text = next(iter(parameters.pop(key, [])), "")
    if not text or text == "0":
        return None
    if not re.fullmatch("[0-9]{1,5}", text):
        spelled = re.sub(r"\$\{(\w+)\}", r"$\1", text)
        raise ValueError(
            f"{key} is {brief(spelled)}: write a line with the number for each tunnel"
        )
    return int(text)


def check_known(key: str, text: str) -> None:
    """Check that a setting's value can stand in a file.

    Raises:
        ValueError: It is known only when the script runs.
    """
    if "$(" in text or "`" in text:
        raise ValueError(
            f"{key} is a command substitution, {brief(text)}: write a target such as "
            "tag:Name=bastion instead"
            if key == "target"
            else f"{key} is a command substitution, {brief(text)}: write what it prints"
        )
    if is_open(text):
        raise ValueError(
            f"{key} is {brief(text)}, known only when the script runs: write its value"
        )
    if key not in _EXPANDED and "${" in text:
        raise ValueError(f"{key} is {brief(text)}, but takes no variables")


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
        data = json.loads(text, strict=False)
    except (ValueError, RecursionError):
        raise ValueError(f"--parameters are not JSON: {text}") from None
    return {
        str(key): [str(v) for v in (value if isinstance(value, list) else [value])]
        for key, value in data.items()
    }
