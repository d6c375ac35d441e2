"""Write a formula for Homebrew: ``formula.py VERSION WHEEL PYLOCK LOCK``, to stdout.

WHEEL is the project's own, PYLOCK the locked libraries with the addresses of their
files (PEP 751), LOCK the lock itself: a digest that it does not have is refused. Every
library is a resource: one wheel where it has no machine code, else one for each system
and processor, so that nothing is compiled.
"""

import hashlib
import re
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from packaging.tags import Tag, compatible_tags, cpython_tags, mac_platforms
from packaging.utils import parse_wheel_filename

PYTHON: Final = (3, 13)
RELEASES: Final = "https://github.com/ssmtunneld/ssmtunneld/releases/download"
_MACOS: Final = (13, 0)
"""The oldest that Homebrew has packages for."""
_GLIBC: Final = range(35, 4, -1)
"""That of Homebrew on Linux, and all below."""


def _linux(machine: str) -> list[str]:
    old = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
    found = []
    for minor in _GLIBC:
        found.append(f"manylinux_2_{minor}_{machine}")
        if minor in old:
            found.append(f"{old[minor]}_{machine}")
    return found


PLATFORMS: Final[dict[tuple[str, str], list[str]]] = {
    ("on_macos", "on_arm"): list(mac_platforms(_MACOS, "arm64")),
    ("on_macos", "on_intel"): list(mac_platforms(_MACOS, "x86_64")),
    ("on_linux", "on_arm"): _linux("aarch64"),
    ("on_linux", "on_intel"): _linux("x86_64"),
}

_HEAD: Final = """\
# Made by packaging/build-formula from packaging/locks/runtime.txt: do not edit.
class Ssmtunneld < Formula
  desc "Port forwarding through AWS Systems Manager Session Manager"
  homepage "https://github.com/ssmtunneld/ssmtunneld"
  url "{url}", using: :nounzip
  version "{version}"
  sha256 "{digest}"
  license "Apache-2.0"

  depends_on "python@{python}"
"""

_TAIL: Final = """
  def install
    python = Formula["python@{python}"].opt_bin/"python{python}"
    wheels = buildpath/"wheels"
    wheels.mkpath
    cp Dir["*.whl"], wheels
    resources.each { |resource| resource.stage { cp Dir["*.whl"], wheels } }
    system python, "-m", "venv", "--without-pip", libexec
    system python, "-m", "pip", "--python", libexec/"bin/python", "install",
           "--no-deps", "--no-index", *Dir[wheels/"*.whl"]
    bin.install_symlink libexec/"bin/ssmtunneld"
    man1.install_symlink Dir[libexec/"share/man/man1/*.1"]
    generate_completions_from_executable(bin/"ssmtunneld", "completion",
                                         shells: [:bash, :zsh, :fish])
  end

  test do
    assert_match "ssmtunneld, version #{version}",
                 shell_output("#{bin}/ssmtunneld --version")
  end
end
"""


def tags_of(platforms: Sequence[str]) -> list[Tag]:
    """Return the tags that Homebrew's Python takes there, the best first."""
    return [
        *cpython_tags(PYTHON, platforms=platforms),
        *compatible_tags(PYTHON, f"cp{PYTHON[0]}{PYTHON[1]}", platforms=platforms),
    ]


def best(wheels: Sequence[Mapping[str, Any]], platforms: Sequence[str]) -> str:
    """Return the address of the wheel that an installer would take.

    Raises:
        LookupError: There is none.
    """
    places = {tag: place for place, tag in enumerate(tags_of(platforms))}
    ranked = []
    for wheel in wheels:
        url = str(wheel["url"])
        _, _, build, tags = parse_wheel_filename(url.rpartition("/")[2])
        found = [places[tag] for tag in tags if tag in places]
        if found:
            ranked.append((min(found), build, url))
    if not ranked:
        raise LookupError
    # Of equal tags the highest build number.
    first = min(place for place, _, _ in ranked)
    return max((build, url) for place, build, url in ranked if place == first)[1]


def resource(package: Mapping[str, Any], locked: set[str]) -> Iterator[str]:
    """Yield the lines of one library.

    Raises:
        ValueError: A digest is not in the lock, or a system has no wheel.
    """
    name, wheels = package["name"], package.get("wheels", ())
    digests = {str(wheel["url"]): wheel["hashes"]["sha256"] for wheel in wheels}
    chosen = {}
    for place, platforms in PLATFORMS.items():
        try:
            url = best(wheels, platforms)
        except LookupError:
            raise ValueError(f"{name} has no wheel for {' '.join(place)}") from None
        if digests[url] not in locked:
            raise ValueError(f"{name}: a digest that the lock does not have: {url}")
        chosen[place] = url

    def lines(url: str, indent: str) -> Iterator[str]:
        yield f'{indent}url "{url}", using: :nounzip'
        yield f'{indent}sha256 "{digests[url]}"'

    yield f'  resource "{name}" do'
    if len(set(chosen.values())) == 1:
        yield from lines(next(iter(chosen.values())), " " * 4)
    else:
        for system in ("on_macos", "on_linux"):
            yield f"    {system} do"
            for processor in ("on_arm", "on_intel"):
                yield f"      {processor} do"
                yield from lines(chosen[system, processor], " " * 8)
                yield "      end"
            yield "    end"
    yield "  end"


def formula(
    version: str, wheel: str, digest: str, pylock: Mapping[str, Any], lock: str
) -> str:
    """Return the formula's text.

    Args:
        version: That of the project.
        wheel: Name of the project's own wheel, as a release has it.
        digest: Its SHA-256.
        pylock: The libraries.
        lock: Text of the lock.

    Raises:
        ValueError: The two do not have the same files, or a wheel is missing.
    """
    python = f"{PYTHON[0]}.{PYTHON[1]}"
    locked = set(re.findall(r"--hash=sha256:([0-9a-f]{64})", lock))
    names = set(re.findall(r"^([\w.-]+)==", lock, re.MULTILINE))
    packages = pylock["packages"]
    if {package["name"] for package in packages} != names:
        raise ValueError("the libraries are not those of the lock")
    url = f"{RELEASES}/v{version}/{wheel}"
    parts = [_HEAD.format(url=url, version=version, digest=digest, python=python)]
    parts += ["\n".join(resource(package, locked)) + "\n" for package in packages]
    return "\n".join(parts) + _TAIL.replace("{python}", python)


def main(version: str, wheel: Path, pylock: Path, lock: Path) -> None:
    """Write the formula to standard output, or end with what is wrong."""
    try:
        text = formula(
            version,
            wheel.name,
            hashlib.sha256(wheel.read_bytes()).hexdigest(),
            tomllib.loads(pylock.read_text("utf-8")),
            lock.read_text("utf-8"),
        )
    except ValueError as error:
        sys.exit(str(error))
    sys.stdout.write(text)


if __name__ == "__main__":
    main(sys.argv[1], *map(Path, sys.argv[2:5]))
