"""A forward proxy: CONNECT and SOCKS5, with a password or without, and TLS inspection.

It alone knows where the invented and the public names of a test lead, so that clients
can use the very names that they use in production.
"""

import asyncio
import base64
import contextlib
import threading

from ssmtunneld.base.aio import close_server

_CHUNK = 65536


class ForwardProxy:
    """Serves on a free loopback port, in a thread with a loop of its own.

    Args:
        routes: The ports of this machine that hosts lead to, by name.
        credentials: The user and password that clients must give, or None.
        inspector: An authority: TLS ends here with its certificates, and a new
            connection with TLS leads on.
        inspected: The hosts that it looks into; None for all of them.
        trusts: The TLS context for what leads on.
        host: The loopback address.
        phrase: The words behind the status of an answer to CONNECT; some have none.
    """

    def __init__(
        self,
        routes,
        *,
        credentials=None,
        inspector=None,
        inspected=None,
        trusts=None,
        host="127.0.0.1",
        phrase=" Connection established",
    ):
        self.routes = routes
        self.asked = []
        """The hosts and ports that were asked for, in order: ``host:port``."""
        self.refused = 0
        """The number of requests whose password was wrong or missing."""
        self._credentials = credentials
        self._inspector = inspector
        self._inspected = inspected
        self._trusts = trusts
        self._host = host
        self._phrase = phrase
        self._listening = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))

    def __enter__(self):
        self._thread.start()
        assert self._listening.wait(30)
        return self

    def __exit__(self, *_):
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def url(self, scheme="http", user=None):
        """Return what clients are told; ``user`` is what stands before the ``@``."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{scheme}://{f'{user}@' if user else ''}{host}:{self.port}"

    async def _serve(self):
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        self._guests = set()
        server = await asyncio.start_server(self._accept, self._host, 0)
        self.port = server.sockets[0].getsockname()[1]
        self._listening.set()
        await self._stop.wait()
        await close_server(server)
        for task in self._guests:
            task.cancel()
        await asyncio.gather(*self._guests, return_exceptions=True)

    async def _accept(self, reader, writer):
        self._guests.add(asyncio.current_task())
        try:
            first = await reader.readexactly(1)
            speak = self._socks if first == b"\x05" else self._connect
            host = await speak(first, reader, writer)
            if host is not None:
                await self._lead(host, reader, writer)
        except (OSError, EOFError):
            pass  # one of the two has hung up
        finally:
            await _hang_up(writer)
            self._guests.discard(asyncio.current_task())

    async def _connect(self, first, reader, writer):
        head = first + await reader.readuntil(b"\r\n\r\n")
        line, *fields = head.decode().split("\r\n")
        method, address, _ = line.split(" ")
        assert method == "CONNECT", line
        headers = {
            name.lower(): value.strip()
            for name, _, value in (field.partition(":") for field in fields)
        }
        if not self._admits(headers.get("proxy-authorization")):
            writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
            return None
        host = self._note(address)
        if host is None:
            writer.write(b"HTTP/1.1 502 Bad Gateway\r\n\r\n")
            return None
        writer.write(f"HTTP/1.1 200{self._phrase}\r\n\r\n".encode())
        return host

    def _admits(self, given):
        if self._credentials is None:
            return True
        words = base64.b64encode(":".join(self._credentials).encode()).decode()
        if given == f"Basic {words}":
            return True
        self.refused += 1
        return False

    async def _socks(self, _, reader, writer):
        methods = await reader.readexactly((await reader.readexactly(1))[0])
        if self._credentials is None:
            writer.write(b"\x05\x00")
        elif 2 not in methods or not await self._admits_by_socks(reader, writer):
            self.refused += 1
            writer.write(b"\x05\xff" if 2 not in methods else b"\x01\x01")
            return None
        _, command, _, kind = await reader.readexactly(4)
        assert (command, kind) in {(1, 1), (1, 3)}, "CONNECT, to IPv4 or a name"
        size = 4 if kind == 1 else (await reader.readexactly(1))[0]
        data = await reader.readexactly(size)
        name = data.decode() if kind == 3 else ".".join(map(str, data))
        port = int.from_bytes(await reader.readexactly(2), "big")
        host = self._note(f"{name}:{port}")
        answer = 0 if host is not None else 4  # host unreachable
        writer.write(bytes([5, answer, 0, 1, 0, 0, 0, 0, 0, 0]))
        return host

    async def _admits_by_socks(self, reader, writer):
        writer.write(b"\x05\x02")
        await reader.readexactly(1)
        user = await reader.readexactly((await reader.readexactly(1))[0])
        password = await reader.readexactly((await reader.readexactly(1))[0])
        if (user.decode(), password.decode()) != self._credentials:
            return False
        writer.write(b"\x01\x00")
        return True

    def _note(self, address):
        self.asked.append(address)
        host = address.rpartition(":")[0].strip("[]")
        return host if host in self.routes else None

    async def _lead(self, host, reader, writer):
        port, tls = self.routes[host], {}
        if self._inspector and host in (self._inspected or self.routes):
            await writer.drain()
            await writer.start_tls(self._inspector.server_context(host))
            tls = {"ssl": self._trusts, "server_hostname": host}
        there = await asyncio.open_connection("127.0.0.1", port, **tls)
        try:
            await asyncio.gather(_copy(reader, there[1]), _copy(there[0], writer))
        finally:
            await _hang_up(there[1])


async def _copy(reader, writer):
    with contextlib.suppress(OSError):
        while data := await reader.read(_CHUNK):
            writer.write(data)
            await writer.drain()
    writer.close()


async def _hang_up(writer):
    with contextlib.suppress(OSError):
        await writer.drain()
    writer.transport.abort()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
