"""The instance's own metadata service, which no proxy leads to.

botocore asks for it through ``HTTP_PROXY`` unless ``NO_PROXY`` names its address, which
few know: credentials would then be asked of a proxy, that of another machine perhaps.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from botocore.httpsession import URLLib3Session
from botocore.utils import IMDSRegionProvider

if TYPE_CHECKING:
    from botocore.session import Session
    from botocore.utils import IMDSFetcher


def region_of_instance(session: Session) -> str | None:
    """Return the region of the instance that this is, or None; blocks for a second."""
    provider = IMDSRegionProvider(session)
    # There is no public way, here and below: botocore decides it when it makes them.
    fetcher: IMDSFetcher = getattr(provider, "_get_fetcher")()  # noqa: B009 - not typed
    go_direct(fetcher)
    region: str | None = provider.provide()
    return region


def go_direct(fetcher: IMDSFetcher) -> None:
    """Keep ``fetcher`` from using proxies."""
    timeout = vars(fetcher)["_timeout"]
    vars(fetcher)["_session"] = URLLib3Session(timeout=timeout, proxies={})
