"""A daemon that ends with whoever started it: what ``own_daemon`` runs.

``python -m ssmtunneld.cli.child_daemon OPTIONS`` is ``ssmtunneld run OPTIONS``, stopped
as by SIGTERM once standard input ends. A pipe from the parent ends however the parent
does, by SIGKILL too: nothing is left behind that holds sessions open.

Until the parent sets the log level, warnings of tunnels are left out: it says what it
waits for, and why that does not come.
"""

import os
import signal
import sys
import threading
from typing import NoReturn

from ssmtunneld.base.threads import NoThread, start
from ssmtunneld.cli.main import PROGRAM
from ssmtunneld.cli.main import main as run_command
from ssmtunneld.observe import logs

_STDIN = 0


def main() -> NoReturn:
    """Run the daemon until standard input ends, or a signal comes."""
    try:
        start(threading.Thread(target=_await_end, name="parent", daemon=True))
    except NoThread as error:
        sys.exit(f"{PROGRAM}: {error.strerror}")
    logs.hush_tunnels()
    run_command(["run", *sys.argv[1:]])


def _await_end() -> None:
    while os.read(_STDIN, 1):
        pass  # nobody should write; whoever does is still there
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()
