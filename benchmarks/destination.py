"""The destination of every benchmark: sends, swallows or echoes, as it is told.

One line each: ``get N`` sends N bytes, ``put N`` swallows N and says ``done``,
``swallowed`` says how many bytes that was since the start, over all connections; any
other line comes back. Run as ``python -m benchmarks.destination PORT``.
"""

import asyncio
import sys

from ssmtunneld.daemon.process import loop_factory

PIECE = b"x" * 65536


swallowed = 0


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Serve one connection until it ends."""
    try:
        while line := await reader.readline():
            word, _, number = line.partition(b" ")
            if word == b"get":
                await _send(writer, int(number))
            elif word == b"put":
                await _swallow(reader, int(number))
                writer.write(b"done\n")
            elif word == b"swallowed\n":
                writer.write(b"%d\n" % swallowed)
            else:
                writer.write(line)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


async def _send(writer: asyncio.StreamWriter, count: int) -> None:
    while count > 0:
        writer.write(PIECE[:count])
        count -= len(PIECE)
        await writer.drain()


async def _swallow(reader: asyncio.StreamReader, count: int) -> None:
    global swallowed  # noqa: PLW0603 - one process serves one benchmark
    while count > 0:
        piece = await reader.read(min(count, 1 << 18))
        if not piece:
            return
        count -= len(piece)
        swallowed += len(piece)


async def main() -> None:
    """Serve until killed."""
    server = await asyncio.start_server(
        serve, "127.0.0.1", int(sys.argv[1]), backlog=1024, limit=1 << 18
    )
    print("ready", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        try:
            runner.run(main())
        except KeyboardInterrupt:
            sys.exit(0)
