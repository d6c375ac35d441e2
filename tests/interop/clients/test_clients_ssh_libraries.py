"""paramiko and asyncssh, with ``ssmtunneld proxy`` as their ProxyCommand."""

import getpass
import json
import sys

import pytest

from tests.interop.conftest import TARGET
from tests.interop.programs import run

PARAMIKO = """
import json, sys, warnings
warnings.simplefilter("ignore")
import paramiko
asked = json.loads(sys.argv[1])
client = paramiko.SSHClient()
client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
client.connect(
    asked["target"], username=asked["user"], key_filename=asked["key"],
    sock=paramiko.ProxyCommand(asked["command"]), allow_agent=False,
    look_for_keys=False, timeout=60, banner_timeout=60,
)
_, out, _ = client.exec_command("echo through; head -c 300000 /dev/zero | wc -c")
print(out.read().decode().split())
client.close()
"""

ASYNCSSH = """
import asyncio, json, sys
import asyncssh
asked = json.loads(sys.argv[1])
async def main():
    async with asyncssh.connect(
        asked["target"], username=asked["user"], client_keys=[asked["key"]],
        known_hosts=None, proxy_command=asked["command"], config=None, agent_path=None,
    ) as connection:
        done = await connection.run("echo through; head -c 300000 /dev/zero | wc -c")
        print(done.stdout.split())
asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("name", "script"), [("paramiko", PARAMIKO), ("asyncssh", ASYNCSSH)]
)
def test_a_library_logs_in_through_the_proxy(
    client, environ, emulator, sshd, name, script
):
    python = client(name) / "bin" / "python"
    port = str(sshd.port)
    command = f"{sys.executable} -m ssmtunneld proxy {TARGET} {port}"
    asked = {
        "target": TARGET,
        "user": getpass.getuser(),
        "key": str(sshd.folder / "user_key"),
        "command": command,
    }
    said = run(python, "-c", script, json.dumps(asked), env=environ)
    # A library may kill its proxy, which then ends no session: sshd would wait for it.
    with emulator.faults("close"):
        pass
    assert said.strip() == "['through', '300000']"
