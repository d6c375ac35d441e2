"""From a grant to an open websocket: signature, refusal, fallback (design D1)."""

import ssl
from collections.abc import Awaitable, Callable, Mapping
from urllib.parse import urlsplit

from ssmtunneld.aws.api.port import Control, Grant
from ssmtunneld.aws.api.proxies import proxy_for
from ssmtunneld.base.foreign import clean
from ssmtunneld.base.log import EventLog
from ssmtunneld.errors import AwsError, LinkRefused, LinkUnreachable, LinkUntrusted
from ssmtunneld.transport.link import Link
from ssmtunneld.transport.read_scheduler import ReadFairness
from ssmtunneld.transport.websocket import Liveness, dial

_FORBIDDEN = 403


class Connector:
    """Opens the websockets of one tunnel's sessions.

    Args:
        control: Signs the upgrade.
        liveness: Timeouts of the websocket.
        tls: Returns the context for ``wss``, or raises OSError.
        log: Gets a line for a fallback.
        proxy: The configured proxy, in the form of ``proxy_for``.
        fairness: Shared with other tunnels' sessions, which should have their turns.
    """

    def __init__(
        self,
        control: Control,
        liveness: Liveness,
        tls: Callable[[], Awaitable[ssl.SSLContext]],
        log: EventLog,
        proxy: str | None = None,
        fairness: ReadFairness | None = None,
    ) -> None:
        self._control = control
        self._liveness = liveness
        self._tls = tls
        self._log = log
        self._proxy = proxy
        self._fairness = fairness

    async def connect(self, grant: Grant) -> Link:
        """Return an open link for ``grant``. Cancelling is safe.

        The upgrade is signed. A service that refuses the signature is asked once more
        without, as the official client would without credentials; the refusal is logged
        with the IAM action that could be missing.

        Raises:
            LinkRefused: The service answered with an HTTP error, signed or not.
            LinkUnreachable: There is no connection.
            RequestRejected: The token must not be sent to the host of the grant's URL.
        """
        self._control.check_stream_url(grant.stream_url)
        try:
            headers = await self._control.sign_upgrade(grant.stream_url)
        except AwsError as error:
            self._log.warning("link.unsigned", reason=str(error), advice=error.advice)
            headers = {}
        try:
            return await self._dial(grant.stream_url, headers)
        except LinkRefused as error:
            if error.status != _FORBIDDEN or not headers:
                raise
            self._log.warning(
                "link.signature_refused", reason=str(error), advice=error.advice
            )
        return await self._dial(grant.stream_url, {})

    async def _dial(self, url: str, headers: Mapping[str, str]) -> Link:
        parts = urlsplit(url)
        try:
            context = await self._tls() if parts.scheme == "wss" else None
            proxy = proxy_for(url, self._proxy)
        except (OSError, ValueError, AwsError) as error:
            # A file of certificates that changed or cannot be read, or an environment
            # that makes no sense; the API's client has stumbled over it before.
            raise LinkUnreachable(parts.hostname or "", clean(str(error))) from None
        try:
            return await dial(
                url,
                headers,
                liveness=self._liveness,
                ssl_context=context,
                proxy=None if proxy is None else proxy.url.reveal(),
                fairness=self._fairness,
            )
        except LinkUnreachable as error:
            if proxy is None or isinstance(error, LinkUntrusted):
                raise
            reason = f"through {proxy}: {error.reason}"
            unreachable = LinkUnreachable(error.host, clean(reason))
        unreachable.advice = "check HTTPS_PROXY and NO_PROXY, or proxy"
        raise unreachable
