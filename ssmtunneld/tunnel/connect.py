"""From a grant to an open websocket: signature, refusal, fallback (design D1)."""

import ssl
from collections.abc import Callable
from urllib.parse import urlsplit

from ssmtunneld.aws.control import Control, Grant
from ssmtunneld.aws.endpoints import is_loopback_host
from ssmtunneld.errors import AwsError, LinkRefused
from ssmtunneld.log import EventLog
from ssmtunneld.transport.link import Link
from ssmtunneld.transport.websocket import Liveness, dial

_FORBIDDEN = 403


class Connector:
    """Opens the websockets of one mapping's sessions.

    Args:
        control: Signs the upgrade.
        liveness: Timeouts of the websocket.
        tls: Returns the context for ``wss``; called when one is needed first.
        log: Where a fallback is noted.
    """

    def __init__(
        self,
        control: Control,
        liveness: Liveness,
        tls: Callable[[], ssl.SSLContext],
        log: EventLog,
    ) -> None:
        self._control = control
        self._liveness = liveness
        self._tls = tls
        self._log = log

    async def connect(self, grant: Grant) -> Link:
        """Return an open link for ``grant``. Cancelling is safe.

        The upgrade is signed. A service that refuses the signature is asked once more
        without, as the official client would without credentials; the refusal is logged
        with the IAM action that may be missing.

        Raises:
            LinkRefused: The service answered with an HTTP error, signed or not.
            LinkUnreachable: There is no connection.
            RequestRejected: The token may not be sent to the host of the grant's URL.
        """
        self._control.check_stream_url(grant.stream_url)
        try:
            headers = await self._control.sign_upgrade(grant.stream_url)
        except AwsError as error:
            self._log.warning("link.unsigned", reason=str(error), advice=error.advice)
            headers = {}
        parts = urlsplit(grant.stream_url)
        context = self._tls() if parts.scheme == "wss" else None
        # No proxy leads back to this machine; the API's client does the same.
        direct = is_loopback_host(parts.hostname or "")
        try:
            return await dial(
                grant.stream_url,
                headers,
                liveness=self._liveness,
                ssl_context=context,
                direct=direct,
            )
        except LinkRefused as error:
            if error.status != _FORBIDDEN or not headers:
                raise
            self._log.warning(
                "link.signature_refused", reason=str(error), advice=error.advice
            )
        return await dial(
            grant.stream_url,
            {},
            liveness=self._liveness,
            ssl_context=context,
            direct=direct,
        )
