"""Ports for programs that must be told theirs."""

import random
import socket
from typing import Final

FIRST: Final = 15_000
BEYOND: Final = 32_000
"""Below the ports that systems give out by themselves (Linux from 32768, macOS from
49152): between the choice of one of these and its use nobody gets it by chance."""

_untried = iter(random.SystemRandom().sample(range(FIRST, BEYOND), BEYOND - FIRST))


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that is not in use; another one each time."""
    for port in _untried:
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("all ports have been tried")
