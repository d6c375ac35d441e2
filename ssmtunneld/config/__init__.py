"""The configuration file, as frozen types.

In: a TOML file and an environment. Out: a ``Config``, or one ``ConfigError`` with a
line per problem; the differences of two configurations; the JSON schema. Reads only
that file and the user database, and imports only ``base`` and ``errors``. Nothing below
the daemon sees a ``Config``: each component takes the few values that it needs.
"""

from ssmtunneld.config.load import find_config, load_config, parse_config
from ssmtunneld.config.model import Config, DaemonSettings, TunnelSettings
from ssmtunneld.config.parsers import Address, TcpAddress, UnixAddress, parse_address
from ssmtunneld.config.schema import json_schema

__all__ = [
    "Address",
    "Config",
    "DaemonSettings",
    "TcpAddress",
    "TunnelSettings",
    "UnixAddress",
    "find_config",
    "json_schema",
    "load_config",
    "parse_address",
    "parse_config",
]
