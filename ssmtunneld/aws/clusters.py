"""EKS clusters by name: the endpoint's host, and the certificates that it shows.

Everything here blocks and must be called in worker threads, or where no loop runs.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ssmtunneld.aws.targets.inventory import stands_alone
from ssmtunneld.base.foreign import clean
from ssmtunneld.base.ports import HIGHEST_PORT, HTTPS_PORT
from ssmtunneld.errors import RequestRejected, ServiceUnavailable, Throttled

if TYPE_CHECKING:
    from collections.abc import Callable

    from ssmtunneld.aws.api.answers import Answer
    from ssmtunneld.aws.client import AwsClient

FRESH: Final = 60.0
"""Seconds for which an endpoint is used without asking again: it stays the same until
somebody deletes the cluster and makes another one of its name."""

_OPERATION: Final = "DescribeCluster"
_URL: Final = re.compile(
    r"https://(?P<host>[A-Za-z0-9][A-Za-z0-9.-]{0,252})(?::(?P<port>[0-9]{1,5}))?/?"
)
_AUTHORITY: Final = re.compile(r"[A-Za-z0-9+/=\r\n]{1,65536}")
"""Certificates in base64: EKS gives one, of 1.5 kB."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """An EKS cluster, as its clients need to know it."""

    name: str
    host: str
    """The name of its endpoint, which its certificate has."""
    port: int
    authority: str
    """Certificates that sign the endpoint's: PEM in base64, on one line. Empty if EKS
    does not tell any."""


def describe_cluster(account: AwsClient, name: str) -> Cluster:
    """Return the cluster called ``name``, in the account and region of ``account``.

    Raises:
        AwsError: AWS refuses or does not answer; there is no such cluster, or it has no
            endpoint (yet).
    """
    if stands_alone(account, "EKS"):
        raise RequestRejected(
            _OPERATION,
            clean("NotAsked"),
            clean("SSM is an emulator here, which has no clusters"),
            "set AWS_ENDPOINT_URL_EKS to an emulator of EKS, or name the destination "
            "with host instead of cluster",
        )
    answer = account.call_service("eks", _OPERATION, name=name)
    found = answer.structure("cluster")
    endpoint = read_endpoint(found)
    if endpoint is None:
        status = found.text("status") or "unknown"
        raise RequestRejected(
            _OPERATION,
            clean("NoEndpoint"),
            clean(f"cluster {name} has no endpoint; its status is {status}"),
            "wait until the cluster is ACTIVE; one that is only registered with EKS "
            "never has an endpoint there",
        )
    authority = _read_authority(found.structure("certificateAuthority"))
    return Cluster(name, *endpoint, authority)


def read_endpoint(cluster: Answer) -> tuple[str, int] | None:
    """Return host and port of a cluster's endpoint; None if it has none, or no URL."""
    url = _URL.fullmatch(cluster.matching("endpoint", _URL))
    if url is None:
        return None
    port = int(url["port"] or HTTPS_PORT)
    return (url["host"].lower(), port) if 0 < port <= HIGHEST_PORT else None


def _read_authority(found: Answer) -> str:
    text = "".join(found.matching("data", _AUTHORITY).split())
    try:
        base64.b64decode(text, validate=True)
    except ValueError:
        return ""
    return text


class ClusterEndpoints:
    """Hosts of the clusters of one identity, remembered for a while.

    May be used by any number of threads at once.

    Args:
        now: Returns the time in seconds.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._known: dict[str, tuple[str, float]] = {}

    def find(self, account: AwsClient, name: str) -> str:
        """Return the host of the cluster called ``name``, as known for a minute.

        It can be older while EKS does not answer, or answers that it was asked too
        often.

        Raises:
            AwsError: As ``describe_cluster`` does.
        """
        known, at = self._known.get(name, ("", 0.0))
        if known and 0 <= self._now() - at < FRESH:
            return known
        try:
            host = describe_cluster(account, name).host
        except (Throttled, ServiceUnavailable):
            if known:
                return known
            raise
        self._known[name] = host, self._now()
        return host
