"""Write the units of a package into a folder: ``python units.py FOLDER``."""

import sys
from pathlib import Path

from ssmtunneld.cli.service.units import system_unit

PROGRAM = ["/usr/bin/ssmtunneld"]
HEAD = """\
# Of the package: replaced by its next version. Settings of your own belong into a
# drop-in: systemctl edit ssmtunneld"""


def units() -> dict[str, str]:
    """Return the text of each unit by its name."""
    one = system_unit(PROGRAM, "/etc/ssmtunneld/config.toml", head=HEAD)
    many = system_unit(PROGRAM, "/etc/ssmtunneld/%i.toml", head=HEAD, instance="%i")
    return {"ssmtunneld.service": one, "ssmtunneld@.service": many}


if __name__ == "__main__":
    for name, text in units().items():
        Path(sys.argv[1], name).write_text(text, encoding="utf-8")
