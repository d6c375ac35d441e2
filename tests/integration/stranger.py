"""Another user of this machine, as a process of its own: only root can make one."""

import asyncio
import json
import os
import pwd
import sys

import pytest

NAME = "nobody"

need_root = pytest.mark.skipif(
    os.geteuid() != 0, reason="only root can become somebody else"
)

# It gives its rights away after the interpreter has started: the other user may not be
# able to read the one that runs the tests.
_VISIT = """
import json, os, socket, sys
uid, words, *addresses = json.loads(sys.argv[1])
os.setgroups([])
os.setgid(uid)
os.setuid(uid)
outcomes = []
for address in addresses:
    family = (
        socket.AF_UNIX if isinstance(address, str)
        else socket.AF_INET6 if ":" in address[0]
        else socket.AF_INET
    )
    try:
        with socket.socket(family) as sock:
            sock.settimeout(30)
            sock.connect(address if isinstance(address, str) else tuple(address))
            sock.sendall(words.encode())
            outcomes.append(sock.recv(4096).decode() or "end of file")
    except OSError as error:
        outcomes.append(type(error).__name__)
print(json.dumps(outcomes))
"""


def uid_of(name=NAME):
    """Return the id of a user."""
    return pwd.getpwnam(name).pw_uid


async def visit(*addresses, words="let me in", user=NAME):
    """Connect to each address as ``user``; return what was heard, or which error came.

    Args:
        addresses: ``(host, port)`` or the path of a Unix socket.
        words: What to say.
        user: Who connects.
    """
    task = json.dumps([uid_of(user), words, *map(_plain, addresses)])
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-I", "-c", _VISIT, task, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    return json.loads(output)


def _plain(address):
    return list(address) if isinstance(address, tuple) else str(address)
