"""Other programs' tunnels, read as tunnels of ours.

In: the text of a shell script, an ssh_config, a ``.basti.yaml`` or a tunneld file.
Out: settings of tunnels, and a line for each thing that has no equivalent. Pure: reads
no file, asks nobody, runs nothing. May import ``config`` and ``base`` only.
"""

from ssmtunneld.importing.detect import read
from ssmtunneld.importing.found import Found, FoundTunnel, Note

__all__ = ["Found", "FoundTunnel", "Note", "read"]
