"""From a file to a ``Config``, or to one ``ConfigError`` that lists every problem.

A problem is one line: ``FILE:LINE: key.path: what is wrong``. Values are not quoted
where they might be secrets, and those of unknown keys never are.
"""

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import platformdirs

from ssmtunneld.config.model import Config
from ssmtunneld.config.tables import read_tables
from ssmtunneld.errors import ConfigError

SYSTEM_CONFIG: Final = Path("/etc/ssmtunneld/config.toml")
VARIABLE: Final = "SSMTUNNELD_CONFIG"

# 500 tunnels take 200 KB; what is larger is not a configuration.
_LARGEST_FILE: Final = 8 * 1024 * 1024
_POSITION: Final = re.compile(
    r" \((?:at line (?P<line>[0-9]+), column (?P<column>[0-9]+)|at end of document)\)$"
)


def find_config(
    explicit: Path | None,
    environ: Mapping[str, str],
    system_wide: Path = SYSTEM_CONFIG,
) -> Path:
    """Return the file to load.

    A file that is named, by ``explicit`` or by ``$SSMTUNNELD_CONFIG``, is taken without
    looking; then come the user's configuration directory and ``system_wide``.

    Raises:
        ConfigError: None is named and none exists; says where they were looked for.
    """
    if explicit is not None:
        return explicit
    if named := environ.get(VARIABLE):
        return Path(named)
    candidates = (user_config(environ), system_wide)
    for candidate in candidates:
        if _exists(candidate):
            return candidate
    places = ", ".join(str(candidate) for candidate in candidates)
    raise ConfigError(
        [
            f"no configuration file: looked for --config, ${VARIABLE}, {places}; "
            "write one with ssmtunneld init, or do without: ssmtunneld open"
        ]
    )


def load_config(path: Path, environ: Mapping[str, str]) -> Config:
    """Return the configuration in the file at ``path``.

    Args:
        path: The file; TOML in UTF-8.
        environ: Where ``${NAME}`` and ``~`` are looked up.

    Raises:
        ConfigError: The file cannot be read, or has problems.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(_LARGEST_FILE + 1)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigError([f"{path}: cannot be read: {reason}"]) from None
    if len(raw) > _LARGEST_FILE:
        raise ConfigError([f"{path}: is larger than 8 MiB, so not a configuration"])
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ConfigError([f"{path}:{line}: is not UTF-8 text"]) from None
    return parse_config(text, path, environ)


def parse_config(text: str, source: str | Path, environ: Mapping[str, str]) -> Config:
    """Return the configuration in ``text``.

    Args:
        text: TOML.
        source: The file it came from: named in errors, and relative paths start from
            its directory. It need not exist.
        environ: Where ``${NAME}`` and ``~`` are looked up.

    Raises:
        ConfigError: Lists every problem that was found, in the order of the lines.
    """
    source = Path(source)
    return read_tables(_parse_toml(text, source), text, source, environ)


def _parse_toml(text: str, source: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ConfigError([f"{source}: is nested too deeply"]) from None
    except ValueError as error:
        # Mostly a TOMLDecodeError; a number of 5000 digits is a plain ValueError.
        message = str(error)
    what = _POSITION.sub("", message)
    where = f"{source}:{_position(message, text)}"
    raise ConfigError([f"{where}: is not TOML: {what[:1].lower()}{what[1:]}"])


def _position(message: str, text: str) -> str:
    """Return ``line:column`` of a complaint of tomllib's; without one, of the end."""
    position = _POSITION.search(message)
    if position is not None and position["line"]:
        return f"{position['line']}:{position['column']}"
    return f"{text.count(chr(10)) + 1}:{len(text) - text.rfind(chr(10))}"


def user_config(environ: Mapping[str, str]) -> Path:
    """Return where the user's own file is, or would be."""
    return _user_directory(environ) / "config.toml"


def _user_directory(environ: Mapping[str, str]) -> Path:
    if base := environ.get("XDG_CONFIG_HOME"):
        return Path(base) / "ssmtunneld"
    return platformdirs.user_config_path("ssmtunneld", appauthor=False)


def _exists(path: Path) -> bool:
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        pass  # load_config says why it cannot be read
    return True
