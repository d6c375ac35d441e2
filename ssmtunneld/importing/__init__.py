"""Other programs' ways to write tunnels, as tunnels of ours.

In comes the text of a shell script, an ssh_config, a ``.basti.yaml`` or a file of
tunneld's; out come settings of tunnels, and a line for each thing that has no
equivalent. Pure: nothing here reads a file, asks AWS, or runs what it reads.
"""

from ssmtunneld.importing.detect import read
from ssmtunneld.importing.found import Found, FoundTunnel, Note

__all__ = ["Found", "FoundTunnel", "Note", "read"]
