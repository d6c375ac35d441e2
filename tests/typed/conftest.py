"""A home for each test, and the servers that its commands reach."""

import shutil
import tempfile
from functools import partial
from pathlib import Path

import pytest

from tests.interop import servers
from tests.interop.certificates import Certificates
from tests.interop.conftest import _need, http_server, sshd  # noqa: F401 - fixtures of that room
from tests.support.authority import Authority
from tests.typed.elsewhere import ELSEWHERE
from tests.typed.page import Page, Script
from tests.typed.stage import staged

DATABASE = "orders.cluster-abc.eu-west-1.rds.amazonaws.com"
OTHERS = ("sales.abc.eu-west-1.redshift.amazonaws.com",)


def pytest_collection_modifyitems(items):
    """Mark the tests that play a page: they need real programs."""
    for item in items:
        if hasattr(getattr(item, "function", None), "plays"):
            item.add_marker(pytest.mark.interop)


@pytest.fixture
def script(request):
    """The commands of the section that the test plays."""
    path, section = request.function.plays
    return Script(Page(path), section, ELSEWHERE.get(path, {}))


@pytest.fixture
def home():
    """A folder whose path fits into a Unix socket's."""
    folder = Path(tempfile.mkdtemp(prefix="at-", dir="/tmp")).resolve()
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def on_stage(home, script):
    """Return a context manager that has the emulator and the stage of a page."""
    _need("curl")
    return partial(staged, home, script.page)


@pytest.fixture(scope="session")
def authority(tmp_path_factory):
    """Whoever signs for the databases; its file is what RDS calls a bundle."""
    return Authority(tmp_path_factory.mktemp("authority"), "databases")


@pytest.fixture(scope="session")
def postgresql(authority):
    """A PostgreSQL with TLS, and with the pages' database ``orders`` and user ``app``.

    It trusts whoever comes, whatever the password.
    """
    _need("initdb", "postgres", "psql")
    own, key = authority.issue(DATABASE, *OTHERS)
    with servers.postgresql() as server:
        server.use_tls(Certificates(authority.bundle, own, key))
        server.psql(server.port, "-c", "create role app login")
        server.psql(server.port, "-c", "create database orders")
        yield server
