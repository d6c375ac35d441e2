"""Stand-ins for clients, and tasks for them."""

import pytest

from ssmtunneld.cli.clients.launch import Task
from ssmtunneld.cli.destination import Local
from tests.cli.test_destination import only

HERE = Local("127.0.1.2", 15432)


@pytest.fixture
def stand_in(tmp_path):
    """Return a function that makes a program which prints what its options ask for."""

    def make(name, **answers):
        """Answer the option ``--KEY``, with dashes for underscores."""
        lines = [
            f"--{option.replace('_', '-')}) cat <<'END'\n{text}\nEND\n;;"
            for option, text in answers.items()
        ]
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        cases = "\n".join(lines)
        path.write_text(f'#!/bin/sh\ncase "$1" in\n{cases}\nesac\n')
        path.chmod(0o700)
        return str(path)

    return make


def task(protocol, program, *arguments, local=HERE, environ=None, **settings):
    """Return a task; keywords are settings of the tunnel, or of the task itself."""
    mine = {"user", "password", "asks"} & settings.keys()
    own = {"asks": False, **{key: settings.pop(key) for key in mine}}
    return Task(
        tunnel=only(listen=1, **{"port": 5432, **settings}),
        local=local,
        program=program,
        protocol=protocol,
        arguments=arguments,
        environ={"PATH": "/usr/bin:/bin", **(environ or {})},
        **own,
    )
