"""``ssmtunneld run`` as a process of its own, and the lines that it writes."""

import contextlib
import json
import os
import sys

from tests.interop.programs import Program, environment


def launch(*arguments, **environ):
    """Start ``ssmtunneld`` with our environment, which the fixtures have cleaned."""
    ours = {
        n: v for n, v in os.environ.items() if n.startswith(("AWS_", "SSMTUNNELD_"))
    }
    command = [sys.executable, "-m", "ssmtunneld", *map(str, arguments)]
    return Program(*command, env=environment(**{**ours, **environ}))


@contextlib.contextmanager
def running(path, text, *options, **environ):
    """Run a daemon from configuration ``text``, written to ``path`` unless None."""
    if text is not None:
        path.write_text(text)
    program = launch("run", "--config", path, *options, **environ)
    try:
        yield program
    finally:
        program.kill()


def lines_of(program, event=None, **facts):
    """Return what a program with ``--log-format json`` has logged so far."""
    texts = program.log().splitlines()
    lines = [json.loads(text) for text in texts if text.startswith("{")]
    wanted = ({"event": event} if event else {}) | facts
    return [line for line in lines if wanted.items() <= line.items()]


def await_line(program, event, *, count=1, **facts):
    """Return the first line of ``event`` that has ``facts``, once there is one.

    Args:
        program: Logs JSON, whose keys have the order time, level, event, then facts.
        event: Its name.
        count: How many there must be.
        facts: Facts in any order; text without quotes in it.
    """
    needles = [f"{json.dumps(key)}: {json.dumps(v)}" for key, v in facts.items()]
    conditions = "".join(f"(?=[^\n]*{needle})" for needle in needles)
    one = f'^{conditions}[^\n]*"event": "{event}"[^\n]*\n'
    program.wait_for("(?ms)" + ".*?".join([one] * count))
    return lines_of(program, event, **facts)[count - 1]


def await_port(program, tunnel):
    """Return the local port of ``tunnel``, once the daemon listens there."""
    line = await_line(program, "listener.bound", tunnel=tunnel)
    return int(line["address"].rpartition(":")[2])
