"""Blocks of an ssh_config(5) that lead ssh through sessions."""

import re
import shlex
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ssmtunneld.base.foreign import clean
from ssmtunneld.errors import SsmtunneldError
from ssmtunneld.ssh.keys import NAME as KEY

HEADER: Final = """\
# Made by `ssmtunneld ssh-config --write`, which replaces this file as a whole.
# Settings of your own, such as User, belong into ~/.ssh/config.
"""

ANYWHERE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - names, not binds
"""Addresses to connect to, for those that stand for all of a machine."""

_SSH: Final = 22
# A path that ssh_config takes without quotes.
_PLAIN: Final = re.compile(r"[A-Za-z0-9_@%+=:,./~-]+")
# What has a meaning of its own in known_hosts or ssh_config.
_NOT_IN_ALIASES: Final = re.compile(r"[^A-Za-z0-9:._/=+-]")


@dataclass(frozen=True, slots=True)
class SshTunnel:
    """A tunnel that leads to an ssh server."""

    name: str
    target: str
    """As the configuration spells it."""
    host: str
    """The destination; ``localhost`` is the target itself."""
    address: str
    """Local address: ``127.0.0.1:2222`` or ``unix:/path``."""
    port: int = _SSH
    """The destination's."""
    user: str | None = None
    """The user who logs in there, if the tunnel pushes a key."""
    key: Path | None = None
    """That public key, if it is not one that ssh has by default."""

    @property
    def alias(self) -> str:
        """Its name in known_hosts: the same as without a tunnel.

        All tunnels are on localhost, so ports and addresses say nothing of the host.
        """
        own = self.host == "localhost"
        alias = self.target if own else f"{self.host}-via-{self.target}"
        alias = _NOT_IN_ALIASES.sub("-", alias)
        return alias if self.port == _SSH else f"[{alias}]:{self.port}"


def split_address(address: str) -> tuple[str, int]:
    """Return host and port to connect to, of a listener's ``127.0.0.1:2222``."""
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    return ANYWHERE.get(host, host), int(port)


def render(
    program: Sequence[str],
    doors: Iterable[SshTunnel],
    keys: Path | None = None,
    *,
    passes: bool = True,
) -> str:
    """Return the whole file.

    Args:
        program: The words that start ``ssmtunneld proxy`` from anywhere, its options
            last.
        doors: A block is made for each.
        keys: Where ``proxy --instance-connect`` keeps its keys; None to log in to
            instances with keys that are there already.
        passes: Whether ssh gets its connections as sockets (``fd_passing.py``), except
            where a key is made for each.

    Raises:
        SsmtunneldError: A path or a name cannot be spelled there.
    """
    # ssh expands percent signs, and then a shell reads the line.
    command = shlex.join(program).replace("%", "%%")

    def plain(destination: str) -> list[str]:
        if not passes:
            return [f"ProxyCommand {command} {destination}"]
        words = f"ProxyCommand {command} --fdpass {destination}"
        return [words, "ProxyUseFdpass yes"]

    if keys is None:
        blocks = [HEADER, _join("Host i-* mi-*", *plain("%h %p"))]
    else:
        instance = _join(
            "Host i-*",
            f"ProxyCommand {command} --instance-connect --user '%r' %h %p",
            f"IdentityFile {_quote(keys, f'/%r@%h/{KEY}')}",
            "IdentitiesOnly yes",
        )
        blocks = [HEADER, instance, _join("Host mi-*", *plain("%h %p"))]
    blocks += [_block(door, plain) for door in doors]
    return "\n".join(blocks)


def _join(*lines: str) -> str:
    for line in lines:
        if not line.isprintable():
            raise _unspellable(line)
    return "\n    ".join(lines) + "\n"


def _quote(path: Path, tokens: str = "") -> str:
    """Return a path, and what follows it, as ssh_config spells it."""
    text = str(path).replace("%", "%%") + tokens
    # Only some versions of ssh know how to escape these.
    if '"' in text or "\\" in text:
        raise _unspellable(text)
    return text if _PLAIN.fullmatch(text) else f'"{text}"'


def _unspellable(text: str) -> SsmtunneldError:
    error = SsmtunneldError(f"{clean(text)!r} cannot be written in ssh's configuration")
    error.advice = "choose a path without quotes, backslashes and control characters"
    return error


def _block(door: SshTunnel, proxied: Callable[[str], list[str]]) -> str:
    lines = [f"Host {door.name}"]
    if door.address.startswith("unix:"):
        target = shlex.quote(door.target).replace("%", "%%")
        lines += proxied(f"{target} %p")
    else:
        host, port = split_address(door.address)
        lines += [f"HostName {host}", f"Port {port}"]
    lines += [f"HostKeyAlias {door.alias}", "CheckHostIP no"]
    if door.user is not None:
        lines.append(f"User {door.user}")
    if door.key is not None:
        lines.append(f"IdentityFile {_quote(door.key.with_suffix(''))}")
    return _join(*lines)
