"""Print the gaps between messages of ``ssmtunneld emulator --pace real``.

    python -m tests.emulator.measure_pace

1 MiB goes to a client in another process. A real session has no gap below 0.5 ms and a
median of 1.2 to 1.3 ms; the exit code is 1 if 1 % of gaps or more are below 0.5 ms, or
the median is not 1.1 to 1.4 ms. This is a measurement and no test: on a busy machine
messages are taken in bunches, unless both processes come first (``chrt -f 10``).
"""

import asyncio
import itertools
import statistics
import sys
import time

from ssmtunneld.protocol.message import MessageType
from tests.emulator.reference import Client, destination, start
from tests.interop.programs import Program, environment

SIZE = 1 << 20


class TimedClient(Client):
    """Notes when each whole message of data came."""

    def __init__(self, grant):
        super().__init__(grant)
        self.times = []

    async def _take(self, data):
        now = time.perf_counter()
        await super()._take(data)
        message = self.messages[-1]
        if message.message_type == MessageType.OUTPUT and len(message.payload) > 1000:
            self.times.append(now)


async def serve(_reader, writer):
    """Send all at once."""
    writer.write(bytes(SIZE))
    await writer.drain()


async def measure(endpoint):
    """Return the gaps in milliseconds."""
    async with destination(serve) as port:
        client = TimedClient(await start(endpoint, port))
        async with client.on_link():
            await client.until_ready()
            await client.open(3)
            await client.until(lambda: 3 in client.finished)
    times = client.times
    return [(b - a) * 1000 for a, b in itertools.pairwise(times)]


def main():
    """Measure once; return the exit code."""
    command = [sys.executable, "-m", "ssmtunneld", "emulator", "--pace=real"]
    program = Program(*command, env=environment())
    try:
        endpoint = program.wait_for(r"emulator listening on (http://\S+)")[1]
        gaps = asyncio.run(measure(endpoint))
    finally:
        program.stop()
    small = sum(gap < 0.5 for gap in gaps) / len(gaps)
    median = statistics.median(gaps)
    rate = SIZE / sum(gaps) / 1000
    sys.stdout.write(
        f"{len(gaps)} gaps, {small:.2%} below 0.5 ms, median {median:.2f} ms, "
        f"{rate:.2f} MB/s\n"
    )
    return 0 if small < 0.01 and 1.1 <= median <= 1.4 else 1


if __name__ == "__main__":
    sys.exit(main())
