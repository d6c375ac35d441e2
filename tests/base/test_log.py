"""Event names and facts reach the logger as they were given."""

import logging

import pytest
import structlog
from structlog.testing import capture_logs

from ssmtunneld.base import redaction
from ssmtunneld.base.log import LOGGER, get_log


@pytest.mark.parametrize("level", ["debug", "info", "warning", "error"])
def test_a_line_is_an_event_its_level_and_its_facts(level):
    with capture_logs() as lines:
        getattr(get_log(), level)("session.opened", attempt=3)
    assert lines == [{"event": "session.opened", "attempt": 3, "log_level": level}]


def test_bound_facts_stand_in_every_line():
    with capture_logs() as lines:
        log = get_log(tunnel="db").bind(session="s-1")
        log.info("session.opened")
        log.info("session.closed", reason="bye")
    assert [line["event"] for line in lines] == ["session.opened", "session.closed"]
    assert all((line["tunnel"], line["session"]) == ("db", "s-1") for line in lines)


def test_a_child_leaves_its_parent_as_it_was():
    with capture_logs() as lines:
        parent = get_log(tunnel="db")
        parent.bind(session="s-1")
        parent.info("tunnel.ready")
    assert lines == [{"event": "tunnel.ready", "tunnel": "db", "log_level": "info"}]


def test_a_library_says_nothing_unless_it_is_asked(capfd):
    structlog.reset_defaults()
    get_log(tunnel="db").error("session.ended", reason="bye")
    assert capfd.readouterr() == ("", "")


def test_a_library_logs_to_the_standard_librarys_logger(caplog):
    structlog.reset_defaults()
    redaction.register("a-very-secret-token")
    caplog.set_level(logging.INFO, LOGGER)
    log = get_log(tunnel="db")
    log.debug("session.noticed")
    log.warning("session.ended", reason="100%s of a-very-secret-token")
    (line,) = caplog.records
    assert (line.name, line.levelname) == ("ssmtunneld", "WARNING")
    assert line.getMessage().startswith("session.ended tunnel='db' reason='100%s of ")
    assert "a-very-secret-token" not in line.getMessage()
