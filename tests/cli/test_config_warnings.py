"""Settings that are valid, and probably slips."""

import os

import pytest

from ssmtunneld.cli.config_warnings import find_file_warnings, find_warnings
from ssmtunneld.config import parse_config
from tests.integration import world
from tests.integration.world import tunnel


@pytest.fixture
def warnings(monkeypatch, tmp_path):
    """Return a function: the warnings about one tunnel with these settings."""
    world.use_loopback_aws(monkeypatch, tmp_path)
    (tmp_path / "aws-config").write_text(
        "[default]\n[profile prod]\nregion = eu-west-1\n[profile plant]\n"
    )

    def find(**settings):
        text = tunnel("db", port=1, **settings)
        return find_warnings(parse_config(text, "c.toml", {}).tunnels)

    find.aws_config = tmp_path / "aws-config"
    return find


@pytest.mark.parametrize(
    "region", ["eu-west-1", "us-gov-west-1", "cn-north-1", "eusc-de-east-1"]
)
def test_regions_of_every_partition_are_known(warnings, region):
    assert warnings(region=region, profile="prod") == []
    assert warnings() == []


def test_a_region_that_does_not_exist_is_told_with_the_nearest(warnings):
    assert warnings(region="eu-wst-1") == [
        "tunnels.db.region: unknown region eu-wst-1 (did you mean eu-west-1?)"
    ]
    assert warnings(region="qq-zzzzzzzz-99") == [
        "tunnels.db.region: unknown region qq-zzzzzzzz-99"
    ]


def test_an_endpoint_of_one_s_own_may_have_a_region_of_its_own(warnings):
    assert warnings(region="eu-wst-1", endpoint_url="http://127.0.0.1:1") == []


def test_an_unknown_profile_is_told_with_the_nearest(warnings):
    assert warnings(profile="prd") == [
        "tunnels.db.profile: unknown profile prd (did you mean prod?)"
    ]
    assert warnings(profile="x") == [
        "tunnels.db.profile: unknown profile x; see: aws configure list-profiles"
    ]


def test_profiles_of_a_file_that_cannot_be_read_are_not_judged(warnings):
    warnings.aws_config.write_text("[profile\n")
    assert warnings(profile="prd") == []


def test_authorities_that_are_not_here_are_told(warnings, tmp_path):
    file = tmp_path / "ca.pem"
    told = f"tunnels.db.db_ca: {file} is not a file here"
    assert warnings(db_ca=str(file)) == [told]
    file.touch()
    assert warnings(db_ca=str(file)) == []


def test_an_audit_log_that_cannot_be_written_is_told(tmp_path):
    pipe = tmp_path / "audit"
    os.mkfifo(pipe)
    text = f'[daemon]\naudit_log = "{pipe}"\n{tunnel("db", port=1)}'
    settings = parse_config(text, "c.toml", {}).daemon
    assert find_file_warnings(settings) == [
        f"daemon.audit_log: {pipe} cannot be written: it is not a regular file"
    ]


def test_no_audit_log_is_no_trouble():
    settings = parse_config(tunnel("db", port=1), "c.toml", {}).daemon
    assert find_file_warnings(settings) == []


def test_a_required_tunnel_that_waits_for_people_is_told_what_to_write(warnings):
    (line,) = warnings(access="request")
    assert line.startswith('tunnels.db.access: "request" makes the daemon not ready')
    assert line.endswith("; write required = false")
    assert warnings(access="request", required=False) == []
    assert warnings(access="direct") == []
