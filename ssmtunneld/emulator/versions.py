"""Features that the versions of agent and client switch on (protocol 2.3, 7.5)."""

import re
from dataclasses import dataclass
from itertools import zip_longest
from typing import Self

from ssmtunneld.errors import ConfigError


def compare_versions(left: str, right: str) -> int:
    """Return -1, 0 or 1 as the agent orders two versions.

    Component by component: as numbers where both are, else as text; then the one with
    more components wins.
    """
    first, second = left.split("."), right.split(".")
    for a, b in zip_longest(first, second):
        if a is None or b is None:
            return -1 if a is None else 1
        if a.isdecimal() and b.isdecimal():
            order = (int(a) > int(b)) - (int(a) < int(b))
        else:
            order = (a > b) - (a < b)
        if order:
            return order
    return 0


@dataclass(frozen=True, slots=True)
class AgentTraits:
    """Features of an agent of one version (the milestones of protocol 2.3)."""

    version: str
    has_mux: bool
    keepalive_always: bool
    """smux keepalive is on whatever the client's version."""
    keepalive_for_old_clients: bool
    knows_disconnect: bool
    knows_terminate: bool
    keeps_unready: bool
    """Messages before the plugin is ready are left for the client to repeat; older
    agents lose them."""
    honours_pause: bool
    """And drains before it closes."""
    knows_host: bool
    denies_link_local: bool
    """Refuses to forward to the metadata service and its neighbours."""
    denies_loopback: bool
    """Refuses loopback and the credential addresses of ECS and EKS too, in whatever way
    they are written."""
    denies_unspecified: bool
    """And the unspecified address, which is another word for loopback."""
    resolves_once: bool
    has_pong_deadline: bool
    """Its websocket is given up when the agent was blocked for too long."""
    panics_when_refused: bool
    """A session without a type (the SSH document's) ends without a word when its
    destination refuses."""

    @classmethod
    def of(cls, version: str) -> Self:
        """Return the traits of ``version``.

        Raises:
            ConfigError: It is not of the form ``3.3.987.0``.
        """
        if not re.fullmatch(r"\d+\.\d+\.\d+\.\d+", version):
            raise ConfigError([f"agent version {version!r} is not like 3.3.987.0"])

        def since(milestone: str) -> bool:
            return compare_versions(version, milestone) >= 0

        return cls(
            version=version,
            has_mux=compare_versions(version, "3.0.196.0") > 0,
            # On at first, off in one release, on again, then up to the client.
            keepalive_always=not since("3.1.1446.0")
            or (since("3.1.1476.0") and not since("3.1.1575.0")),
            keepalive_for_old_clients=since("3.1.1575.0"),
            knows_disconnect=since("2.3.714.0"),
            knows_terminate=since("2.3.756.0"),
            keeps_unready=since("3.0.655.0"),
            honours_pause=since("3.0.732.0"),
            knows_host=since("3.1.1188.0"),
            denies_link_local=since("3.1.1374.0"),
            denies_loopback=since("3.3.4851.0"),
            denies_unspecified=since("3.3.5068.0"),
            resolves_once=since("3.2.1041.0"),
            has_pong_deadline=since("3.3.987.0"),
            panics_when_refused=since("3.3.4851.0"),
        )

    def uses_mux(self, session_type: str, client_version: str) -> bool:
        """Say whether smux runs inside the channel (protocol 6.1)."""
        return (
            self.has_mux
            and session_type == "LocalPortForwarding"
            and compare_versions(client_version, "1.1.70") >= 0
        )

    def uses_keepalive(self, client_version: str) -> bool:
        """Say whether the agent's smux kills a session that is silent for 30 s."""
        old_client = compare_versions(client_version, "1.2.331.0") <= 0
        return self.keepalive_always or (self.keepalive_for_old_clients and old_client)
