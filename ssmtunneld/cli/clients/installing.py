"""Packages that have the clients, as this machine's package manager calls them."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ssmtunneld.cli.clients.launch import find_program

if TYPE_CHECKING:
    from collections.abc import Mapping

_MANAGERS: Final[Mapping[str, str]] = {
    "apt-get": "sudo apt-get install",
    "dnf": "sudo dnf install",
    "apk": "sudo apk add",
}


@dataclass(frozen=True, slots=True)
class Package:
    """The names of the package that has one client; empty where there is none."""

    apt: str = ""
    dnf: str = ""
    apk: str = ""
    brew: str = ""
    page: str = ""
    """The page on which its makers say how to install it."""


def advice(package: Package, environ: Mapping[str, str]) -> str:
    """Return how to install a package here, as a command if there is one.

    Args:
        package: What to install.
        environ: Has the PATH in which package managers are looked for.
    """
    if sys.platform == "darwin":
        if package.brew:
            return f"install it: {package.brew}"
        return f"install it: {package.page}"
    names = {"apt-get": package.apt, "dnf": package.dnf, "apk": package.apk}
    for manager, name in names.items():
        if name and find_program([manager], environ):
            return f"install it: {_MANAGERS[manager]} {name}"
    return f"install it: {package.page}"
