"""What an ssh_config(5) must hold so that ssh finds its way through sessions."""

import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from ssmtunneld.ssh.warm import split_address

HEADER: Final = """\
# Made by `ssmtunneld ssh-config --write`, which replaces this file as a whole.
# Settings of your own, such as User, belong into ~/.ssh/config.
"""

# What has a meaning of its own in known_hosts or ssh_config.
_NOT_IN_ALIASES: Final = re.compile(r"[^A-Za-z0-9:._/=+-]")


@dataclass(frozen=True, slots=True)
class Door:
    """A tunnel that leads to an ssh server."""

    name: str
    target: str
    """As the configuration spells it."""
    host: str
    """The destination; ``localhost`` is the target itself."""
    address: str
    """Where it listens: ``127.0.0.1:2222`` or ``unix:/path``."""

    @property
    def alias(self) -> str:
        """What known_hosts calls it.

        All tunnels are on localhost, so ports and addresses say nothing of the host.
        """
        own = self.host == "localhost"
        alias = self.target if own else f"{self.host}-via-{self.target}"
        return _NOT_IN_ALIASES.sub("-", alias)


def render(program: Sequence[str], doors: Iterable[Door]) -> str:
    """Return the whole file.

    Args:
        program: The words that start ``ssmtunneld`` from anywhere, its options last.
        doors: A block is made for each.
    """
    # ssh expands percent signs, and then a shell reads the line.
    command = shlex.join(program).replace("%", "%%")
    blocks = [HEADER, f"Host i-* mi-*\n    ProxyCommand {command} %h %p\n"]
    blocks += [_block(command, door) for door in doors]
    return "\n".join(blocks)


def _block(command: str, door: Door) -> str:
    lines = [f"Host {door.name}"]
    if door.address.startswith("unix:"):
        target = shlex.quote(door.target).replace("%", "%%")
        lines.append(f"ProxyCommand {command} {target} %p")
    else:
        host, port = split_address(door.address)
        lines += [f"HostName {host}", f"Port {port}"]
    lines += [f"HostKeyAlias {door.alias}", "CheckHostIP no"]
    return "\n    ".join(lines) + "\n"
