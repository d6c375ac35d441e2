"""The metadata services of instances and containers, which no proxy leads to.

botocore asks for an instance's through ``HTTP_PROXY`` unless ``NO_PROXY`` names its
address, which few know: credentials would then be asked of a proxy, that of another
machine perhaps. It also waits without end for an answer that trickles.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ssmtunneld.aws.api.http import Sender
from ssmtunneld.aws.botocore_internals import region_by, replace_metadata_senders

if TYPE_CHECKING:
    from botocore.session import Session


def region_of_instance(session: Session) -> str | None:
    """Return the region of the instance that this is, or None; blocks for a second."""
    return region_by(session, _direct)


def default_region(session: Session) -> str | None:
    """Return the region of environment, profile or instance; None if none is known."""
    # In the order that users know from other SDKs; botocore itself knows neither
    # AWS_REGION nor the instance's region (users.md 3.7).
    region: str | None = (
        os.environ.get("AWS_REGION")
        or session.get_config_variable("region")
        or region_of_instance(session)
    )
    # As with keys: an environment file with CRLF leaves a line end behind.
    return region.rstrip("\r\n") if isinstance(region, str) else None


def go_direct(session: Session) -> None:
    """Let ``session`` ask for the roles of instance and container without proxies."""
    replace_metadata_senders(session, _direct)


def _direct(timeout: float) -> Sender:
    return Sender(ca_bundle=None, proxy="", timeout=timeout)
