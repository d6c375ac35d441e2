"""``ssmtunneld log-level``: at once, and of older daemons too."""

import pytest

from ssmtunneld.observe import logs
from tests.cli.household import call, document, older_daemon, serving_app


@pytest.fixture(autouse=True)
def _level():
    yield
    logs.set_level("info")


def test_it_changes_what_the_daemon_logs(operator, capsys):
    assert call(capsys, "log-level", "debug") == (0, "log level: debug\n", "")
    assert logs._threshold == logs.LEVELS["debug"]


def test_what_is_no_level_ends_it_with_2(operator, capsys):
    assert call(capsys, "log-level", "loud")[0] == 2
    assert logs._threshold == logs.LEVELS["info"]


def test_older_daemons_know_it(home, capsys):
    with serving_app(older_daemon(document())):
        assert call(capsys, "log-level", "debug")[0] == 0
