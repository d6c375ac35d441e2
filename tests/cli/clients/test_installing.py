"""Hints on packages to install, in the words of this machine's package manager."""

import pytest

from ssmtunneld.cli.clients.installing import Package, advice

X = Package(
    apt="x-client", dnf="x", apk="x-cli", brew="brew install x", page="http://x"
)


@pytest.mark.parametrize(
    ("manager", "words"),
    [
        ("apt-get", "sudo apt-get install x-client"),
        ("dnf", "sudo dnf install x"),
        ("apk", "sudo apk add x-cli"),
        ("pacman", "http://x"),
    ],
)
def test_a_package_is_named_as_the_manager_knows_it(
    stand_in, monkeypatch, manager, words
):
    monkeypatch.setattr("sys.platform", "linux")
    folder = stand_in(manager).removesuffix(f"/{manager}")
    assert advice(X, {"PATH": folder}) == f"install it: {words}"


def test_without_a_package_its_makers_tell(stand_in, monkeypatch):
    monkeypatch.setattr("sys.platform", "linux")
    folder = stand_in("apt-get").removesuffix("/apt-get")
    assert advice(Package(page="http://x"), {"PATH": folder}) == "install it: http://x"


def test_a_mac_has_homebrew(monkeypatch):
    monkeypatch.setattr("sys.platform", "darwin")
    assert advice(X, {}) == "install it: brew install x"
    assert advice(Package(page="http://x"), {}) == "install it: http://x"
