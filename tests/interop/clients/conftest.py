"""Clients that nobody here wrote, in environments of their own.

``sh tests/interop/install-clients`` installs them. One that could not be installed is
skipped by its name and the reason; where the script never ran all are skipped, unless
SSMTUNNELD_REQUIRE_INTEROP is set, as it is in CI.
"""

import os
from pathlib import Path

import pytest

from tests.interop.conftest import _lack, run_emulator
from tests.interop.programs import aws_environment

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="session")
def client():
    """Return a function that finds the folder of a client by its name, or skips."""
    folder = Path(os.environ.get("SSMTUNNELD_CLIENTS", ROOT / ".clients"))

    def find(name):
        reason = folder / f"{name}.missing"
        if reason.exists():
            pytest.skip(
                f"{name} cannot be installed here: {reason.read_text().strip()}"
            )
        if not (folder / name / ".complete").exists():
            _lack(name)
        return folder.resolve() / name

    return find


@pytest.fixture(scope="session")
def emulator():
    """The AWS side of these clients alone: some leave sessions as ours never would."""
    with run_emulator() as running:
        yield running


@pytest.fixture
def environ(emulator, tmp_path):
    """The environment of a client's process: the way to the emulator, and no other."""
    url = emulator.endpoint
    return aws_environment(
        url,
        AWS_ENDPOINT_URL_STS=url,
        AWS_DEFAULT_REGION="eu-west-1",
        HOME=str(tmp_path),
        XDG_STATE_HOME=str(tmp_path),
        XDG_CONFIG_HOME=os.devnull,
    )
