"""Addresses of names, looked up so that a name without an answer holds up no other.

``getaddrinfo`` cannot be broken off, and takes as long as name servers let it: half a
minute where none answers. An event loop has a few threads for it (uvloop has four),
which all of its connections share: some sessions whose names lie in a domain that is
out of reach would keep every other session from connecting again. Here each name has
threads of its own, and whoever asks for it at the same time shares one.
"""

import socket
import threading
import time
from concurrent.futures import Future
from ipaddress import ip_address
from typing import Any, Final, NamedTuple, TypeAlias

from ssmtunneld.base.threads import NoThread, start

ADDRESS_LIMIT: Final = 8
"""Addresses of one name that are tried."""
LOOKUP_LIMIT: Final = 128
"""Look-ups at a time."""
NAME_LIMIT: Final = 4
"""Of these, of one name."""
SHARED: Final = 1.0
"""Seconds for which a look-up counts as the same: after that, the network can be
another one, with other name servers."""

Address: TypeAlias = tuple[Any, ...]
"""As ``socket.getaddrinfo`` has it: family, kind, protocol, name, socket address."""
_Place: TypeAlias = tuple[str, int]


class TooManyLookups(OSError):
    """So many names are looked up already that another one has to wait."""


class _LookUp(NamedTuple):
    began: float
    found: "Future[list[Address]]"


class Lookups:
    """The names that are looked up at the moment. Any thread may use it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = 0
        self._pending: dict[_Place, list[_LookUp]] = {}

    def begin(self, host: str, port: int) -> Future[list[Address]]:
        """Return what will have the first addresses of ``host``, at most eight.

        It is never cancelled: others can wait for it too. It has ``socket.gaierror`` if
        there is no address, and ``NoThread`` if the system allows no thread for it. An
        address needs no look-up.

        Raises:
            TooManyLookups: There is no room for another name.
        """
        if _is_address(host):
            return _filled(_new(), host, port)
        place = host, port
        with self._lock:
            looking = self._pending.get(place, [])
            now = time.monotonic()  # noqa: TID251 - threads ask, too
            if looking and (
                now < looking[-1].began + SHARED or len(looking) >= NAME_LIMIT
            ):
                return looking[-1].found
            if self._count >= LOOKUP_LIMIT:
                raise TooManyLookups(f"{LOOKUP_LIMIT} other lookups are still pending")
            begun = _LookUp(now, _new())
            self._pending[place] = [*looking, begun]
            self._count += 1
        self._start(place, begun)
        return begun.found

    def _start(self, place: _Place, begun: _LookUp) -> None:
        def look_up() -> None:
            try:
                _filled(begun.found, *place)
            finally:
                self._forget(place, begun)

        try:
            start(threading.Thread(target=look_up, name="lookup", daemon=True))
        except NoThread as error:
            self._forget(place, begun)
            begun.found.set_exception(error)

    def _forget(self, place: _Place, over: _LookUp) -> None:
        with self._lock:
            self._count -= 1
            left = [each for each in self._pending[place] if each is not over]
            if left:
                self._pending[place] = left
            else:
                del self._pending[place]


def _is_address(host: str) -> bool:
    try:
        ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


def _new() -> Future[list[Address]]:
    found: Future[list[Address]] = Future()
    found.set_running_or_notify_cancel()  # from now on nobody can cancel it
    return found


def _filled(
    found: Future[list[Address]], host: str, port: int
) -> Future[list[Address]]:
    try:
        answers = [*socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    except UnicodeError:  # a label that is empty, or longer than 63 characters
        no_name = socket.gaierror(socket.EAI_NONAME, "not a valid host name")
        found.set_exception(no_name)
    except Exception as error:  # noqa: BLE001 - raised again, where it is waited for
        found.set_exception(error)
    else:
        found.set_result(answers[:ADDRESS_LIMIT])
    return found


_process: Final = Lookups()


def begin_lookup(host: str, port: int) -> Future[list[Address]]:
    """Do what :meth:`Lookups.begin` does, for the whole process."""
    return _process.begin(host, port)
