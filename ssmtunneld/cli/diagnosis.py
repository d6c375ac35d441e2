"""Shared by the commands that diagnose tunnels: ``doctor`` and ``check --live``."""

from __future__ import annotations

import asyncio
import errno
import os
from typing import TYPE_CHECKING, Final, TypeVar

import click

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from ssmtunneld.doctor.walk import DoctorContext

T = TypeVar("T")

API_PATIENCE: Final = 30.0
"""Seconds in which passing errors of the API are waited out."""

_COLOURS: Final = {"ok": "green", "warn": "yellow", "fail": "red", "skip": "yellow"}
_WIDTH: Final = max(map(len, _COLOURS)) + 2


def say(verdict: str, text: str, cure: str = "") -> None:
    """Print one line that begins with a verdict, and the cure below it."""
    mark = click.style(f"[{verdict}]", fg=_COLOURS[verdict])
    # Padded by hand: the colour's bytes would count.
    space = " " * (_WIDTH - len(verdict))
    # None: in colour on a terminal only.
    color = False if os.environ.get("NO_COLOR") else None
    click.echo(f"  {mark}{space}{text}", color=color)
    if cure:
        click.echo(f"          cure: {cure}")


def new_context(api_patience: float = API_PATIENCE) -> DoctorContext:
    """Return the surroundings of a diagnosis, and log only errors meanwhile.

    Args:
        api_patience: Seconds in which passing errors of the API are waited out.
    """
    import time

    from ssmtunneld.base.log import get_log
    from ssmtunneld.doctor.walk import DoctorContext
    from ssmtunneld.observe import logs

    logs.configure("error", "auto")
    return DoctorContext(
        wall_clock=lambda: time.time_ns() / 1e9,
        log=get_log(),
        api_patience=api_patience,
    )


def run(walk: Coroutine[None, None, T]) -> T:
    """Run ``walk``, which prints, and return what it returns.

    Raises:
        BrokenPipeError: Nobody reads any more; click ends the program for that.
    """
    try:
        return asyncio.run(walk)
    except BaseExceptionGroup as group:
        # The task groups of the walk wrap what printing raises.
        if group.split(BrokenPipeError)[1] is not None:
            raise
    raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
