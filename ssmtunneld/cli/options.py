"""Options that several commands share."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from ssmtunneld.config import Config

_Command = TypeVar("_Command", bound=Callable[..., Any])


def config_option(command: _Command) -> _Command:
    """Add ``--config FILE``, passed as ``config_path``."""
    return click.option(
        "-c",
        "--config",
        "config_path",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="The configuration file. By default $SSMTUNNELD_CONFIG, then the user's "
        "configuration directory, then /etc/ssmtunneld/config.toml.",
    )(command)


def load(config_path: Path | None) -> "Config":
    """Find and parse the configuration.

    Raises:
        ConfigError: There is none, or it cannot be used.
    """
    from ssmtunneld.config import find_config, load_config

    return load_config(find_config(config_path, os.environ), os.environ)
