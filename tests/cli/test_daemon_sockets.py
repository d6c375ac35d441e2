"""The paths at which control sockets are looked for."""

from pathlib import Path

import pytest

from ssmtunneld.cli.daemon_sockets import all_sockets, named_config, system_sockets
from ssmtunneld.daemon.instance_lock import control_socket, instance_name


@pytest.mark.parametrize(
    ("option", "variable", "named"),
    [
        (None, None, None),
        (None, "", None),
        (None, "/v.toml", Path("/v.toml")),
        (Path("/o.toml"), "/v.toml", Path("/o.toml")),
    ],
)
def test_an_option_goes_before_the_variable(home, monkeypatch, option, variable, named):
    if variable is not None:
        monkeypatch.setenv("SSMTUNNELD_CONFIG", variable)
    assert named_config(option) == named


def test_those_of_the_user_come_before_those_of_services(home):
    own, service = control_socket("0" * 12), home / "system" / "ssmtunneld" / "a.sock"
    for path in (own, service):
        path.parent.mkdir(parents=True)
        path.touch()
    assert system_sockets() == [service]
    assert all_sockets(None) == [own, service]


def test_of_a_file_there_is_one_of_the_user(home):
    config = home / "c.toml"
    assert all_sockets(config) == [control_socket(instance_name(config))]
