"""A pool of threads for a system that allows no more of them at times.

Apart from ``threads.py``, for the sake of those who need no pool: it takes 3 ms.
"""

from concurrent.futures import ThreadPoolExecutor

from typing_extensions import override

from ssmtunneld.base.threads import NoThread


class ThreadPool(ThreadPoolExecutor):
    """A pool of threads in which work waits where no further thread can be started.

    Python's own refuses work then that it has queued already, and does all the same
    once a thread is free: whoever was refused would leave a session behind.

    ``submit`` raises :class:`NoThread` where not even the first thread can be started.
    """

    @override
    def _adjust_thread_count(self) -> None:
        try:
            super()._adjust_thread_count()
        except RuntimeError:
            if self._threads:
                return
            self._work_queue.get_nowait()
            raise NoThread from None
