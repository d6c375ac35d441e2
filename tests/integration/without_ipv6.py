"""A daemon and all it needs in a network without IPv6, and a Python without uvloop.

To be run in a network namespace of its own: ``python -m ... FOLDER``.
"""

import asyncio
import fcntl
import socket
import struct
import sys
from pathlib import Path

from ssmtunneld.testing import EmulatorThread
from tests.integration.processes import await_line, lines_of, running
from tests.integration.world import configuration, destination, echoes, tunnel

_SWITCH = Path("/proc/sys/net/ipv6/conf/all/disable_ipv6")
_SIOCSIFFLAGS = 0x8914
_IFF_UP_RUNNING = 0x41


def make_network():
    """Switch loopback on, and IPv6 off."""
    if _SWITCH.exists():
        _SWITCH.write_text("1")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sh14x", b"lo", _IFF_UP_RUNNING)
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, request)


async def main(folder):
    """Use a tunnel on ``localhost``; another one on ``::1`` cannot be."""
    (folder / "uvloop.py").write_text("raise ImportError('as if it were not there')\n")
    with EmulatorThread() as service:
        async with destination() as port:
            text = configuration(
                service.endpoint_url,
                tunnel("both", listen="localhost:0", port=port),
                tunnel("six", listen="[::1]:0", port=port, required=False),
            )
            path = folder / "config.toml"
            environ = {**service.environment, "PYTHONPATH": str(folder)}
            with running(path, text, "--log-format", "json", **environ) as program:
                await asyncio.to_thread(use, program)
                (bound,) = lines_of(program, "listener.bound", tunnel="both")
                local = int(bound["address"].removeprefix("127.0.0.1:"))
                assert await echoes(local)
                assert await asyncio.to_thread(program.stop) == 0


def use(program):
    """Wait until it is ready; look what it has said."""
    await_line(program, "daemon.ready")
    assert await_line(program, "daemon.started")["loop"] == "asyncio"
    failed = await_line(program, "listener.failed", tunnel="six")
    assert failed["reason"].startswith("cannot listen on [::1]:0: ")
    assert failed["advice"]


if __name__ == "__main__":
    make_network()
    asyncio.run(main(Path(sys.argv[1])))
