"""Many tunnels in a bounded time: the same walk for each, a few of them at once."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ssmtunneld.doctor.report import HOPS, Finding, Verdict
from ssmtunneld.doctor.walk import DoctorContext, examine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ssmtunneld.config import TunnelSettings

AT_ONCE: Final = 4
"""Walks at the same time: each starts a session, which AWS allows a few a second of."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """Findings along one tunnel."""

    tunnel: str
    """Its name."""
    findings: tuple[Finding, ...]

    @property
    def broken(self) -> Finding | None:
        """The hop that is broken, if there is one."""
        return next((f for f in self.findings if f.verdict is Verdict.FAIL), None)

    @property
    def warnings(self) -> tuple[Finding, ...]:
        """The hops that work badly."""
        return tuple(f for f in self.findings if f.verdict is Verdict.WARN)


async def examine_all(
    tunnels: Iterable[TunnelSettings],
    context: DoctorContext,
    tell: Callable[[Outcome], None],
    *,
    timeout: float,
) -> None:
    """Walk along all ``tunnels``, ``AT_ONCE`` at a time.

    A session is started and terminated for each. Cancelling terminates them as well.

    Args:
        tunnels: The tunnels.
        context: What is used.
        tell: Called once for each, as soon as its walk is over.
        timeout: Seconds for everything; walks that are under way then are broken off.
    """
    deadline = asyncio.get_running_loop().time() + timeout
    room = asyncio.Semaphore(AT_ONCE)

    async def go(tunnel: TunnelSettings) -> None:
        findings: list[Finding] = []
        try:
            async with asyncio.timeout_at(deadline), room:
                await examine(tunnel, context, findings.append)
        except TimeoutError:
            if len(findings) < len(HOPS):
                findings.append(_unfinished(tunnel.name, findings, timeout))
        tell(Outcome(tunnel.name, tuple(findings)))

    async with asyncio.TaskGroup() as tasks:
        for tunnel in tunnels:
            tasks.create_task(go(tunnel), name=f"walk {tunnel.name}")


def _unfinished(name: str, findings: list[Finding], timeout: float) -> Finding:
    text = f"not finished within {timeout:g} s"
    if not findings:
        text = f"not started within {timeout:g} s"
    cure = f"raise --timeout, or run: ssmtunneld doctor {name}"
    return Finding(HOPS[len(findings)], Verdict.FAIL, text, cure)
