"""The admin path: look at sessions, turn faults on and off. See docs/emulator.md."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Final

from aiohttp import web

from ssmtunneld.emulator.access import AccessRequests
from ssmtunneld.emulator.faults import Action, FaultPlan
from ssmtunneld.emulator.registry import Registry
from ssmtunneld.emulator.session import Session
from ssmtunneld.errors import ConfigError

PATH: Final = "/_emulator"


class Admin:
    """Answers ``/_emulator``.

    Args:
        registry: The sessions.
        plan: The faults in force.
        access: The requests for node access.
    """

    def __init__(
        self, registry: Registry, plan: FaultPlan, access: AccessRequests
    ) -> None:
        self._registry = registry
        self._plan = plan
        self._access = access

    def routes(self) -> list[web.RouteDef]:
        """Return what to add to an application."""
        return [
            web.get(f"{PATH}/state", self._get_state),
            web.get(f"{PATH}/faults", self._get_faults),
            web.put(f"{PATH}/faults", self._put_faults),
            web.post(f"{PATH}/faults", self._post_faults),
            web.delete(f"{PATH}/faults", self._delete_faults),
            web.post(f"{PATH}/sessions/{{id}}/{{action}}", self._post_action),
            *self._access.routes(PATH),
        ]

    def state(self) -> dict[str, Any]:
        """Return everything that is known, without any token."""
        sessions = [describe(session) for session in self._registry]
        return {
            "sessions": sessions,
            "access_requests": self._access.state(),
            "instances": self._registry.power.state(),
            "faults": self.faults(),
        }

    def faults(self) -> dict[str, Any]:
        """Return the faults in force."""
        plan = self._plan
        return {
            "specs": list(plan.specs),
            "seed": plan.seed,
            "offline": sorted(plan.offline),
        }

    def change(self, specs: list[str], *, replace: bool) -> None:
        """Put faults in force, and carry out the actions among them at once.

        Raises:
            ConfigError: A specification cannot be read; nothing has changed.
        """
        plan = self._plan
        actions = plan.replace(specs) if replace else plan.apply(specs)
        for action, direction in actions:
            self._registry.do(action, direction)

    async def _get_state(self, _request: web.Request) -> web.Response:
        return web.json_response(self.state())

    async def _get_faults(self, _request: web.Request) -> web.Response:
        return web.json_response(self.faults())

    async def _put_faults(self, request: web.Request) -> web.Response:
        return await self._change(request, replace=True)

    async def _post_faults(self, request: web.Request) -> web.Response:
        return await self._change(request, replace=False)

    async def _delete_faults(self, _request: web.Request) -> web.Response:
        self._plan.clear()
        return web.json_response(self.faults())

    async def _change(self, request: web.Request, *, replace: bool) -> web.Response:
        try:
            self.change(_specs(await request.read()), replace=replace)
        except ConfigError as error:
            return web.json_response({"error": str(error)}, status=400)
        return web.json_response(self.faults())

    async def _post_action(self, request: web.Request) -> web.Response:
        session = self._registry.get(request.match_info["id"])
        name = request.match_info["action"]
        if session is None or name not in tuple(Action):
            return web.json_response({"error": "no such session or action"}, status=404)
        session.do(Action(name))
        return web.json_response(describe(session))


def describe(session: Session) -> dict[str, Any]:
    """Return one session as JSON can hold it; its token is not in it."""
    agent = session.agent
    plugin = agent.plugin
    return {
        "id": session.id,
        "target": session.request.target,
        "document": session.request.document,
        "reason": session.request.reason,
        "properties": dict(session.request.properties),
        "status": session.status.value,
        "output": session.output,
        "ready": agent.ready.is_set(),
        "client_version": agent.client_version,
        "attached": session.attached,
        "websockets": session.websockets,
        "blocked": plugin is not None and plugin.blocked,
        "streams": [asdict(view) for view in plugin.streams()] if plugin else [],
        "up": asdict(session.up.statistics) | {"waiting": len(session.up)},
        "down": asdict(session.down.statistics) | {"waiting": len(session.down)},
        "agent": asdict(agent.reliability.statistics)
        | {
            "unacknowledged": agent.reliability.unacknowledged,
            "early_waiting": agent.reliability.early,
            "paused": agent.reliability.paused,
            "rto": agent.reliability.round_trip.timeout,
        },
    }


def _specs(raw: bytes) -> list[str]:
    try:
        body: Any = json.loads(raw)
    except (ValueError, RecursionError):
        raise ConfigError(["the body is not JSON"]) from None
    specs = body.get("specs") if isinstance(body, Mapping) else body
    if isinstance(specs, str):
        specs = [specs]
    if not isinstance(specs, list) or not all(isinstance(s, str) for s in specs):
        raise ConfigError(['expected {"specs": ["drop=0.02", ...]}'])
    return specs
