"""Port numbers that are facts of TCP and of URLs, not choices of this package."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

HIGHEST_PORT: Final = 65535
HTTPS_PORT: Final = 443
SCHEME_PORTS: Final[Mapping[str, int]] = MappingProxyType(
    {"http": 80, "ws": 80, "https": HTTPS_PORT, "wss": HTTPS_PORT}
)
"""The ports of URLs that name none (RFC 9110, section 4.2; RFC 6455, section 3)."""
