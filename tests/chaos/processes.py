"""The daemon and the emulator as processes of their own, as people run them."""

import json
import sys
import urllib.request

import psutil

from tests.interop.programs import Program, aws_environment, environment


class Service:
    """A running ``ssmtunneld emulator``; use as a context manager."""

    def __init__(self, *options):
        self.program = Program(
            *_command("emulator", "--listen", "127.0.0.1:0", *options),
            env=environment(),
        )
        self.endpoint = ""

    def __enter__(self):
        pattern = r"emulator listening on (http://\S+)"
        self.endpoint = self.program.wait_for(pattern)[1]
        return self

    def __exit__(self, *_):
        self.program.kill()

    def sessions(self):
        """Return the sessions as the emulator's admin path shows them."""
        with urllib.request.urlopen(f"{self.endpoint}/_emulator/state") as answer:
            return json.load(answer)["sessions"]

    def active(self):
        """Return the ids of the sessions that nobody has ended."""
        over = {"Terminated", "Failed"}
        return {s["id"] for s in self.sessions() if s["status"] not in over}

    def start_times(self):
        """Return when each session was started, in order, in Unix seconds."""
        found, token = [], None
        while True:
            page = self._describe(token)
            found += [session["StartDate"] for session in page["Sessions"]]
            token = page.get("NextToken")
            if token is None:
                return sorted(found)

    def _describe(self, token):
        body = {"State": "Active", "MaxResults": 200}
        request = urllib.request.Request(
            self.endpoint,
            json.dumps(body | ({"NextToken": token} if token else {})).encode(),
            {
                "Content-Type": "application/x-amz-json-1.1",
                "X-Amz-Target": "AmazonSSM.DescribeSessions",
            },
        )
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)


def start_daemon(service, directory, text):
    """Start ``ssmtunneld run`` with the configuration ``text``; do not wait for it.

    Two daemons with the same ``directory`` are the same one, started again.
    """
    path = directory / "config.toml"
    path.write_text(text, encoding="utf-8")
    return Program(
        *_command("run", "--config", path),
        env=aws_environment(
            service.endpoint,
            STATE_DIRECTORY=str(directory),
        ),
    )


def resident(program):
    """Return a program's resident memory in bytes."""
    return psutil.Process(program.pid).memory_info().rss


def _command(*arguments):
    return [sys.executable, "-m", "ssmtunneld", *arguments]
