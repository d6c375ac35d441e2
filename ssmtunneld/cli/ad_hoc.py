"""Tunnels from words on a command line, as a configuration that is in no file."""

import os
import re
import socket
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ssmtunneld.base.foreign import clean
from ssmtunneld.base.ports import HIGHEST_PORT
from ssmtunneld.errors import ConfigError

if TYPE_CHECKING:
    from ssmtunneld.config import Config

SOURCE: Final = Path("command line")
"""The place of a file in the configuration."""
SOCKS_PORT: Final = 1080

_DESTINATION: Final = re.compile(
    r"(?:(?P<host>\[[^\[\]]+\]|[^:\[\]]+):)?(?P<port>[0-9]{1,5})"
)
_LOCAL: Final = re.compile(r"(?P<port>[0-9]{1,5}):(?P<rest>.+)")
_APART: Final = "write the local port as --listen {port}, and the destination as {rest}"
_PART: Final = re.compile(r"\[[^\[\]]*\]|[^:\[\]]*")
_PROBLEM: Final = re.compile(
    rf"{re.escape(str(SOURCE))}:[0-9]+: (?:(?:tunnels\.(?P<tunnel>[^.:]+)|defaults)\.)?"
    r"(?P<key>[a-z_]+)(?P<place>\[(?P<index>[0-9]+)\])?: (?P<said>.*)"
)
"""A problem as those of a file are told; ``said`` follows on from the key."""
_LONGEST_NAME: Final = 63


@dataclass(frozen=True, slots=True)
class Forward:
    """One tunnel to one destination."""

    host: str | None
    """None is the target itself."""
    port: int
    listen: str = ""
    """As in a file; empty for the same port on loopback, or else any."""
    note: str = field(default="", compare=False)
    """Reason for another port than the destination's; empty if nobody wonders."""


def parse_destination(text: str) -> Forward:
    """Return where ``[HOST:]PORT`` leads.

    Raises:
        ValueError: It is not a destination; says what to write.
    """
    return _destination(text, text)


def parse_tunnel(text: str) -> Forward:
    """Return what a word means: ``[[LOCAL:]HOST:]PORT`` or ``LOCAL:PORT``.

    With the local port in front, as kubectl, docker and ssh's -L have it: no host is a
    bare number.

    Raises:
        ValueError: It means nothing; says what to write.
    """
    match = _LOCAL.fullmatch(text)
    if match is None or _bracketed(text):
        return parse_destination(text)
    if not _is_port(match["port"]):
        raise ValueError(
            f"{text!r} is not a destination: {match['port']} in front of it is no "
            f"local port, write one up to {HIGHEST_PORT}"
        )
    end = _destination(match["rest"], text)
    return Forward(end.host, end.port, match["port"])


def _destination(text: str, word: str) -> Forward:
    """Return where ``text`` leads, which is ``word`` or what stands at its end.

    Raises:
        ValueError: Nowhere; quotes the word, which is what was typed.
    """
    match = _DESTINATION.fullmatch(text)
    try:
        if match is None or not 1 <= int(match["port"]) <= HIGHEST_PORT:
            raise ValueError(_meant(text, word))  # noqa: TRY301 - one place that quotes
        host = _host(match["host"] or "", match["port"], is_whole=text == word)
    except ValueError as error:
        raise ValueError(f"{word!r} is not a destination: {error}") from None
    return Forward(host, int(match["port"]))


def _meant(text: str, word: str) -> str:
    """Return what to write instead of ``text``, which stands at the end of ``word``."""
    if address := _bracketed(word):
        return f"write IPv6 addresses in brackets, as in {address}"
    local = _LOCAL.fullmatch(text) if text == word else None
    if local and _is_port(local["port"]) and _DESTINATION.fullmatch(local["rest"]):
        return _APART.format(**local.groupdict())
    return "write a port such as 5432, or HOST:PORT"


def _bracketed(word: str) -> str:
    """Return an IPv6 address, with or without a port, as it should have been typed.

    Empty for every other word.
    """
    host, _, port = word.rpartition(":")
    for address, its_port in ((host, port), (word, "5432")):
        plain = address.partition("%")[0]
        try:
            if _is_port(its_port) and ip_address(plain).version == 6:
                return f"[{plain}]:{its_port}"
        except ValueError:
            continue
    return ""


def parse_forward(text: str) -> Forward:
    """Return what ``[bind:]port:host:hostport`` means, as ssh's -L spells it.

    Raises:
        ValueError: It means nothing; says what to write.
    """
    parts = _parts(text)
    if len(parts) == 3:
        parts.insert(0, "127.0.0.1")
    if len(parts) != 4 or not parts[2]:
        raise ValueError(
            f"{text!r} is not a forward: write port:host:hostport or "
            "bind:port:host:hostport, with IPv6 addresses in brackets"
        )
    bind, port, host, hostport = parts
    end = parse_destination(f"{host}:{hostport}")
    address = f"{_BINDS.get(bind, bind)}:{port}"
    return Forward(end.host, end.port, address)


_BINDS: Final = {"": "0.0.0.0", "*": "0.0.0.0", "::1": "[::1]"}  # noqa: S104 - as ssh reads them


def _parts(text: str) -> list[str]:
    """Return what stands between the colons that are not within brackets."""
    parts: list[str] = []
    at = 0
    while match := _PART.match(text, at):
        parts.append(match[0])
        at = match.end() + 1
        if text[match.end() : at] != ":":
            break
    return parts if at > len(text) else []


def _host(text: str, port: str, *, is_whole: bool) -> str | None:
    """Return the host of a destination; None for the target itself.

    Args:
        text: The host, in brackets or not.
        port: The port behind it.
        is_whole: Whether nothing stands in front of it, which is a local port then.

    Raises:
        ValueError: Nothing could be connected to there; says what to write.
    """
    from ssmtunneld.config.parsers import check_host, names_loopback, spelled_out

    host = text.removeprefix("[").removesuffix("]")
    # The target's own loopback is where sessions lead that name no host.
    if not host or names_loopback(host):
        return None
    if _is_port(host):
        apart = _APART.format(port=host, rest=port)
        raise ValueError(apart if is_whole else f"{host} is no host")
    full = spelled_out(host)
    if full is not None and names_loopback(full):
        raise ValueError(
            f"{host} is read as {full}, the target itself: write only the port, {port}"
        )
    try:
        return check_host(host)
    except ValueError as error:
        raise ValueError(f"{host} {error}") from None


def _is_port(text: str) -> bool:
    digits = text.isascii() and text.isdigit() and len(text) <= 5
    return digits and int(text) <= HIGHEST_PORT


def looks_like_destination(text: str) -> bool:
    """Return True if ``text`` says where a tunnel leads, and is not a target."""
    from ssmtunneld.config.targets import parse_target

    try:
        parse_target(text)
    except ValueError:
        pass
    else:
        return False
    try:
        parse_tunnel(text)
    except ValueError:
        return False
    return True


def check_target(text: str) -> None:
    """Make sure that a word which was typed is a target.

    Raises:
        ValueError: It is none; quotes it, and says what to write.
    """
    from ssmtunneld.config.targets import describe_target, parse_target

    try:
        parse_target(text)
    except ValueError as error:
        raise ValueError(describe_target(text, error)) from None


def with_addresses(
    forwards: Sequence[Forward], given: Sequence[str], *, at_home: bool = False
) -> list[Forward]:
    """Return ``forwards`` that listen somewhere.

    Args:
        forwards: Those without an address get one: the next of ``given``, then the
            destination's own port on 127.0.0.1 if that is free, then any port.
        given: Addresses, in the order of the forwards.
        at_home: Whether the target is this machine: an emulator's. A free port of the
            target then has no destination behind it, and a tunnel on it would lead to
            itself.

    Raises:
        ValueError: There are more addresses than forwards that want one, or one is
            empty, as a variable is that is not set.
    """
    if "" in given:
        raise ValueError("--listen is empty: write a port, or leave it out")
    waiting = list(given)
    taken: set[int] = set()
    found: list[Forward] = []
    for forward in forwards:
        listen, note = forward.listen or (waiting.pop(0) if waiting else ""), ""
        if not listen:
            to_itself = at_home and _is_target(forward.host)
            listen, note = (_ANY, _AT_HOME) if to_itself else _own(forward.port, taken)
        found.append(replace(forward, listen=listen, note=note))
    if waiting:
        raise ValueError(f"--listen {waiting[0]} has no destination of its own")
    return found


_ANY: Final = "127.0.0.1:0"
_AT_HOME: Final = "an emulator's destination is this machine's own port"


def _is_target(host: str | None) -> bool:
    from ssmtunneld.aws.api.endpoints import is_loopback_host

    return host is None or is_loopback_host(host)


def _own(port: int, taken: set[int]) -> tuple[str, str]:
    """Return ``port`` of 127.0.0.1 if it is free; else any, and why."""
    if port in taken:
        return _ANY, f"{port} is another tunnel's"
    refusal = _refusal(port)
    if refusal is None:
        taken.add(port)
        return f"127.0.0.1:{port}", ""
    if isinstance(refusal, PermissionError):
        return _ANY, f"{port} needs a privilege"
    from ssmtunneld.listener.process_table import tcp_holder

    holder = tcp_holder(["127.0.0.1"], port)
    return _ANY, f"{port} is held by {holder}" if holder else f"{port} is taken"


def is_free(port: int) -> bool:
    """Return True if this process could listen on ``port`` of 127.0.0.1 now."""
    return _refusal(port) is None


def _refusal(port: int) -> OSError | None:
    with socket.socket() as probe:
        # As listeners do: what an ended connection has left is not an obstacle.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            return error
    return None


def socks_address(address: str) -> tuple[str, str]:
    """Return where a SOCKS proxy listens that was asked to listen on ``address``.

    And why not on the usual port; empty if it does, or was told where.
    """
    return (address, "") if address else _own(SOCKS_PORT, set())


def configure(
    target: str,
    forwards: Iterable[Forward],
    settings: Mapping[str, object],
    proxy: Mapping[str, object] | None = None,
) -> "Config":
    """Return the configuration of these tunnels through ``target``.

    Args:
        target: As in a file.
        forwards: All with an address.
        settings: Of the table ``[defaults]``; None for what is not set.
        proxy: ``listen`` and ``destinations`` of a SOCKS proxy, if there is one.

    Raises:
        ConfigError: Something is wrong with them; says it without a file.
    """
    from ssmtunneld.config.tables import read_tables

    tunnels: dict[str, dict[str, object]] = {}
    for forward in forwards:
        own: dict[str, object] = {"listen": forward.listen, "port": forward.port}
        if forward.host is not None:
            own["host"] = forward.host
        tunnels[_name(forward, tunnels)] = own
    if proxy is not None:
        tunnels["socks"] = {"mode": "socks5", **proxy}
    given = {key: value for key, value in settings.items() if value is not None}
    tables: dict[str, Any] = {
        # Whoever ends the command wants it to end.
        "daemon": {"drain_timeout": "0s"},
        "defaults": {**given, "target": target},
        "tunnels": tunnels,
    }
    try:
        return read_tables(tables, "", SOURCE, os.environ)
    except ConfigError as error:
        problems = [_quoted(problem, tables) for problem in error.problems]
        raise ConfigError(list(dict.fromkeys(problems))) from None


def _quoted(problem: str, tables: Mapping[str, Any]) -> str:
    """Return a problem of no file: with the word that was typed, without a place."""
    match = _PROBLEM.fullmatch(problem)
    if match is None:
        return problem
    own = tables["tunnels"].get(match["tunnel"], {})
    value = {**tables["defaults"], **own}.get(match["key"])
    if match["index"] is not None and isinstance(value, list):
        value = value[int(match["index"])]
    said = match["said"]
    if match["key"] == "target":
        from ssmtunneld.config.targets import describe_target

        return f"target: {describe_target(str(value), said)}"
    key = match["key"]
    if key == "allow":
        key, said = "--allow-from", said.replace('["10.0.0.0/8"]', "10.0.0.0/8")
    if isinstance(value, str) and said.startswith(("is ", "has ")):
        return f"{key}: {clean(value)!r} {said}"
    return f"{key}{match['place'] or ''}: {said}"


def _name(forward: Forward, taken: Iterable[str]) -> str:
    """Return a name that a person recognizes: ``orders-5432``, ``port-8000``."""
    host = "port" if forward.host is None else _short(forward.host)
    stem = re.sub(r"[^a-z0-9-]+", "-", host.lower()).strip("-")[: _LONGEST_NAME - 10]
    name = first = f"{stem or 'port'}-{forward.port}"
    number = 2
    while name in taken:
        name = f"{first}-{number}"
        number += 1
    return name


def _short(host: str) -> str:
    try:
        return str(ip_address(host))
    except ValueError:
        return host.partition(".")[0]
