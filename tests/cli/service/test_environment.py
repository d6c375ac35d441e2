"""What a service misses of the shell that installs it."""

import pytest

from ssmtunneld.cli.service.environment import unseen
from ssmtunneld.config import load_config
from tests.integration.world import tunnel

KEYS = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
PLACE = {"AWS_REGION": "eu-west-1", "AWS_ENDPOINT_URL": "http://127.0.0.1:1"}


@pytest.mark.parametrize(
    ("settings", "environ", "names"),
    [
        ({}, {}, ()),
        ({}, KEYS, tuple(KEYS)),
        ({"profile": "prod"}, KEYS, ()),
        ({}, {**KEYS, "AWS_PROFILE": "x"}, tuple(KEYS)),
        ({}, {"AWS_PROFILE": "x"}, ("AWS_PROFILE",)),
        ({"profile": "prod"}, {"AWS_PROFILE": "x"}, ()),
        ({}, PLACE, ("AWS_REGION", "AWS_ENDPOINT_URL")),
        ({"region": "eu-west-1", "endpoint_url": "http://127.0.0.1:2"}, PLACE, ()),
        ({"profile": "prod"}, {"HTTPS_PROXY": "http://p"}, ("HTTPS_PROXY",)),
        ({}, {"AWS_REGION": ""}, ()),
    ],
)
def test_what_the_file_says_needs_no_variable(tmp_path, settings, environ, names):
    path = tmp_path / "config.toml"
    path.write_text(tunnel("db", port=1, **settings))
    assert unseen(load_config(path, {}), environ, None) == names


def test_what_the_services_file_has_is_seen(tmp_path):
    path, file = tmp_path / "config.toml", tmp_path / "environment"
    path.write_text(tunnel("db", port=1))
    config = load_config(path, {})
    assert unseen(config, KEYS, file) == tuple(KEYS)
    file.write_text("# AWS_SECRET_ACCESS_KEY=\nAWS_ACCESS_KEY_ID=a\n")
    assert unseen(config, KEYS, file) == ("AWS_SECRET_ACCESS_KEY",)
