"""The version of the control socket, on which daemon and commands agree.

Nothing here is slow to import: ``ssmtunneld status`` reads it too.
"""

from typing import Final

PROTOCOL: Final = 4
"""Of the control socket; goes up when a request is added or changes its meaning.

0 is a daemon that does not tell its protocol: it knows only ``GET /status`` and
``PUT /log-level``. 2 knows connections and the log, 3 requests for access,
4 waking.
"""

PROTOCOL_HEADER: Final = "Ssmtunneld-Protocol"
"""The header of every answer that holds ``PROTOCOL``."""

PROGRAM_HEADER: Final = "Ssmtunneld-Program"
"""The header of every answer that holds the daemon's version."""
