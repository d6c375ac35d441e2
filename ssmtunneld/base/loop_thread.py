"""A thread whose event loop keeps something open while other code blocks."""

import asyncio
import sys
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import AbstractAsyncContextManager, suppress
from typing import Any, Generic, TypeVar

from ssmtunneld.base.on_error import on_error
from ssmtunneld.base.threads import start

_Opened = TypeVar("_Opened")
_Result = TypeVar("_Result")


class LoopThread(Generic[_Opened]):
    """A thread whose loop keeps an asynchronous context open, from start to stop.

    Args:
        context: What is kept open; it belongs to no loop yet.
        name: The thread's.
        loop_factory: Makes the loop; ``None`` for asyncio's own.
    """

    def __init__(
        self,
        context: AbstractAsyncContextManager[_Opened],
        *,
        name: str,
        loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
    ) -> None:
        self._context = context
        self._loop_factory = loop_factory
        # A daemon, so that nobody is kept from ending by a block that never ends.
        self._thread = threading.Thread(target=self._live, name=name, daemon=True)
        self._opened: Future[_Opened] = Future()
        self._closed: Future[None] = Future()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._stopping = False
        self._told = asyncio.Event()

    def start(self) -> _Opened:
        """Open the context, and return what it gives; once.

        What is raised while that is awaited, as by Ctrl-C, closes it again.

        Raises:
            NoThread: The system allows no further thread.
            BaseException: It cannot be opened.
        """
        with on_error(self._end):
            start(self._thread)
            return self._opened.result()

    def stop(self) -> None:
        """Close the context, and wait for that.

        Without effect where the thread is not: in a process that was forked off, and in
        what the interpreter calls at its very end.

        Raises:
            BaseException: It has failed.
        """
        if self._end():
            self._closed.result()

    def call(self, work: Coroutine[Any, Any, _Result]) -> _Result:
        """Do ``work`` on the loop, and return its result; from any other thread.

        Raises:
            RuntimeError: The context is not open, or not for as long as that takes.
            BaseException: ``work`` did.
        """
        over = RuntimeError(f"{self._thread.name} does not run")
        try:
            if self._loop is None or not self._thread.is_alive():
                raise over
            answer = asyncio.run_coroutine_threadsafe(work, self._loop)
        except RuntimeError:  # or its loop is closed
            work.close()
            raise over from None
        # What comes when the loop has gone round for the last time is never done.
        either: list[Future[Any]] = [answer, self._closed]
        wait(either, return_when=FIRST_COMPLETED)
        if not answer.done() or answer.cancelled():
            raise over
        return answer.result()

    def _end(self) -> bool:
        """End the thread; return False if there is none, or none that could end."""
        self._stopping = True  # before looking: the task looks after it can be seen
        # Of a parent's threads, a forked child has only those that are not alive.
        if not self._thread.is_alive() or sys.is_finalizing():
            return self._closed.done()
        if self._loop is not None:
            with suppress(RuntimeError):  # it has ended: its loop is closed
                self._loop.call_soon_threadsafe(self._leave)
        # Not by joining alone: Python 3.11 takes a thread for ended if that is
        # interrupted.
        wait([self._closed])
        self._thread.join()
        return True

    def _leave(self) -> None:
        if self._opened.done():
            self._told.set()
        elif self._task is not None:
            self._task.cancel()

    def _live(self) -> None:
        failure: BaseException | None = None
        try:
            with asyncio.Runner(loop_factory=self._loop_factory) as runner:
                self._loop = runner.get_loop()
                runner.run(self._hold())
        except asyncio.CancelledError:
            pass  # stopped before it was open
        except BaseException as error:  # noqa: BLE001 - raised again in start() or stop()
            failure = error
        if not self._opened.done():
            never = RuntimeError(f"{self._thread.name} was stopped before it began")
            self._opened.set_exception(failure or never)
            failure = None
        if failure is None:
            self._closed.set_result(None)
        else:
            self._closed.set_exception(failure)

    async def _hold(self) -> None:
        self._task = asyncio.current_task()
        if self._stopping:
            return
        async with self._context as opened:
            self._opened.set_result(opened)
            await self._told.wait()
