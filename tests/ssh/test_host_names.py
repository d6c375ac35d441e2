"""Regions in host names."""

import pytest

from ssmtunneld.ssh.host_names import split_region

ID = "i-0123456789abcdef0"


@pytest.mark.parametrize("between", [".", "--"])
@pytest.mark.parametrize("region", ["us-east-2", "eu-west-1", "us-gov-west-1"])
@pytest.mark.parametrize("target", [ID, "i-01234567", f"m{ID}"])
def test_an_id_may_name_its_region(target, between, region):
    assert split_region(f"{target}{between}{region}") == (target, region)


@pytest.mark.parametrize(
    "host",
    [ID, "name:web.us-east-2", f"{ID}.example", f"{ID}.", f"{ID}-us-east-2", "web-1"],
)
def test_other_host_names_are_targets_alone(host):
    assert split_region(host) == (host, None)
