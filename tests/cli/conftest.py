"""A home in which no daemon runs but those that a test serves."""

import pytest

from tests.cli.household import Household, serving, use_home


@pytest.fixture
def tmp_path(tmp_path_factory):
    """A folder whose path is short: those of Unix sockets must be."""
    return tmp_path_factory.mktemp("t")


@pytest.fixture
def home(monkeypatch, tmp_path):
    """The folder in which daemons and files are looked for."""
    use_home(monkeypatch, tmp_path)
    return tmp_path


@pytest.fixture
def operator(home):
    """Answer at the control socket; the status document has one tunnel, ``db``."""
    household = Household()
    with serving(household):
        yield household
