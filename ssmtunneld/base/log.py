"""Event names and facts, over structlog.

A line is an event, ``noun.past_participle``, and facts. Nothing here formats: rendering
is chosen once, by the program (``observe/logs.py``). Payloads and tokens are never
facts.

Where no program has chosen, this is a library in somebody else's program: lines go to
the logger ``ssmtunneld`` of the standard library, which is silent until it is given a
handler.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final, cast

from ssmtunneld.base.lean_imports import hidden
from ssmtunneld.base.redaction import redact

with hidden("rich"):  # 4 MiB and a tenth of a start, for tracebacks that nobody prints
    import structlog

if TYPE_CHECKING:
    from typing import Self

LOGGER: Final = "ssmtunneld"
"""The name of the logger."""

# Or the standard library would print warnings to standard error.
logging.getLogger(LOGGER).addHandler(logging.NullHandler())


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
    logger = (
        structlog.get_logger(LOGGER)
        if structlog.is_configured()
        else structlog.wrap_logger(
            logging.getLogger(LOGGER),
            processors=[_render],
            wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG),
        )
    )
    bound = logger.bind(**facts)
    return EventLog(cast("structlog.typing.FilteringBoundLogger", bound))


def _render(
    logger: logging.Logger, method: str, line: structlog.typing.EventDict
) -> str:
    """Return an event and its facts as one line of text."""
    if not logger.isEnabledFor(logging.getLevelNamesMapping()[method.upper()]):
        raise structlog.DropEvent
    event = line.pop("event")
    facts = (f"{name}={value!r}" for name, value in line.items())
    return redact(" ".join([str(event), *facts]))
