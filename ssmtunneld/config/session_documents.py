"""Names of the session documents of AWS that forward a port (protocol 1.2)."""

from typing import Final

PORT_DOCUMENT: Final = "AWS-StartPortForwardingSession"
"""To a port of the target itself."""
REMOTE_HOST_DOCUMENT: Final = "AWS-StartPortForwardingSessionToRemoteHost"
"""To a port of a host that the target can reach."""
SSH_DOCUMENT: Final = "AWS-StartSSHSession"
"""To the target's own SSH server; the port has a default."""
