"""Event names and facts, over structlog.

A line is an event, ``noun.past_participle``, and facts. Nothing here formats: rendering
is chosen once, by the program (``observe/logs.py``). Payloads and tokens are never
facts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import structlog

if TYPE_CHECKING:
    from typing import Self


class EventLog:
    """A logger bound to facts that every line from it repeats."""

    __slots__ = ("_logger",)

    def __init__(self, logger: structlog.typing.FilteringBoundLogger) -> None:
        self._logger = logger

    def bind(self, **facts: object) -> Self:
        """Return a child that also carries ``facts``."""
        return type(self)(self._logger.bind(**facts))

    def debug(self, event: str, **facts: object) -> None:
        """Note something that only a developer wants to know."""
        self._logger.debug(event, **facts)

    def info(self, event: str, **facts: object) -> None:
        """Note what an operator wants to know at three in the morning."""
        self._logger.info(event, **facts)

    def warning(self, event: str, **facts: object) -> None:
        """Note what went wrong and is being dealt with."""
        self._logger.warning(event, **facts)

    def error(self, event: str, **facts: object) -> None:
        """Log an event that needs action."""
        self._logger.error(event, **facts)


def get_log(**facts: object) -> EventLog:
    """Return the program's log, bound to ``facts``."""
    logger = structlog.get_logger("ssmtunneld").bind(**facts)
    return EventLog(cast("structlog.typing.FilteringBoundLogger", logger))
