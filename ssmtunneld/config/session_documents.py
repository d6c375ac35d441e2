"""Names of the session documents of AWS that forward a port (protocol 1.2)."""

from typing import Final

PORT_DOCUMENT: Final = "AWS-StartPortForwardingSession"
"""To a port of the target itself."""
REMOTE_HOST_DOCUMENT: Final = "AWS-StartPortForwardingSessionToRemoteHost"
"""To a port of a host that the target can reach."""
SSH_DOCUMENT: Final = "AWS-StartSSHSession"
"""To the target's own SSH server; the port has a default."""


def takes_destination(document: str) -> bool:
    """Return true if ``document``, a name or an ARN, is told host and port.

    Those of AWS take them as ``host`` and ``portNumber``. What another one takes is not
    known here, and AWS refuses parameters that a document does not declare.
    """
    return document.rpartition("/")[2].startswith("AWS-")
