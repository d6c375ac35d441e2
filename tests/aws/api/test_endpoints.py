"""Endpoints: names in every partition, overrides, and who may see a token."""

import pytest

from ssmtunneld.aws.api.endpoints import (
    SettingError,
    apply_override,
    check_endpoint,
    configured_endpoint,
    data_host,
    is_loopback_host,
    is_opt_in,
    is_trusted_stream_url,
    parse_override,
    partition_of,
    without_query,
)

PATH = "/v1/data-channel/a@b-0f?role=publish_subscribe&cell-number=A+k/N=="
HERE, ELSEWHERE = "http://127.0.0.1:4566", "http://127.0.0.1:4567"
PUBLIC = "https://ssm.eu-west-1.amazonaws.com"


def trusts(url, region="eu-west-1", override=None, ssm=PUBLIC):
    return is_trusted_stream_url(
        url, region=region, ssmmessages_endpoint=override, ssm_endpoint=ssm
    )


@pytest.mark.parametrize(
    ("environ", "endpoint"),
    [
        ({}, ""),
        ({"AWS_ENDPOINT_URL": HERE}, HERE),
        ({"AWS_ENDPOINT_URL": ELSEWHERE, "AWS_ENDPOINT_URL_SSM": HERE}, HERE),
        ({"AWS_ENDPOINT_URL": HERE, "AWS_ENDPOINT_URL_SSM": ""}, HERE),
        ({"AWS_ENDPOINT_URL_EC2": HERE}, ""),
        (
            {
                "AWS_ENDPOINT_URL_SSM": HERE,
                "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "True",
            },
            "",
        ),
    ],
)
def test_the_variables_of_botocore_name_an_endpoint(environ, endpoint):
    assert configured_endpoint(environ) == endpoint


@pytest.mark.parametrize(
    ("region", "partition", "host"),
    [
        ("eu-west-1", "aws", "ssmmessages.eu-west-1.amazonaws.com"),
        ("us-gov-west-1", "aws-us-gov", "ssmmessages.us-gov-west-1.amazonaws.com"),
        ("cn-north-1", "aws-cn", "ssmmessages.cn-north-1.amazonaws.com.cn"),
        ("us-iso-east-1", "aws-iso", "ssmmessages.us-iso-east-1.c2s.ic.gov"),
        ("us-isob-east-1", "aws-iso-b", "ssmmessages.us-isob-east-1.sc2s.sgov.gov"),
        ("us-isof-south-1", "aws-iso-f", "ssmmessages.us-isof-south-1.csp.hci.ic.gov"),
        ("eu-isoe-west-1", "aws-iso-e", "ssmmessages.eu-isoe-west-1.cloud.adc-e.uk"),
        ("eusc-de-east-1", "aws-eusc", "ssmmessages.eusc-de-east-1.amazonaws.eu"),
    ],
)
def test_every_partition_has_its_own_names(region, partition, host):
    assert partition_of(region).name == partition
    assert data_host(region) == host


def test_fips_and_dual_stack_names_are_known():
    assert (
        data_host("us-east-1", fips=True) == "ssmmessages-fips.us-east-1.amazonaws.com"
    )
    assert data_host("us-east-1", dual_stack=True) == "ssmmessages.us-east-1.api.aws"
    both = data_host("us-east-1", fips=True, dual_stack=True)
    assert both == "ssmmessages-fips.us-east-1.api.aws"


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST.", "127.0.0.1", "127.8.8.8", "::1", "[::1]"]
)
def test_loopback_has_many_names(host):
    assert is_loopback_host(host)


@pytest.mark.parametrize(
    "host", ["", "localhost.example.com", "10.0.0.1", "127.0.0.1.nip.io", "0.0.0.0"]
)
def test_what_merely_looks_like_loopback_is_not(host):
    assert not is_loopback_host(host)


@pytest.mark.parametrize(
    "host",
    [
        "ssmmessages.eu-west-1.amazonaws.com",
        "ssmmessages-fips.eu-west-1.amazonaws.com",
        "ssmmessages.eu-west-1.api.aws",
        "ssmmessages-fips.eu-west-1.api.aws",
        "SSMMESSAGES.eu-west-1.amazonaws.com:443",
    ],
)
def test_the_services_own_names_are_trusted(host):
    assert trusts(f"wss://{host}{PATH}")


@pytest.mark.parametrize(
    "url",
    [
        f"ws://ssmmessages.eu-west-1.amazonaws.com{PATH}",
        f"wss://ssmmessages.us-east-1.amazonaws.com{PATH}",
        f"wss://ssmmessages.eu-west-1.amazonaws.com:8443{PATH}",
        f"wss://ssmmessages.eu-west-1.amazonaws.com.evil.example{PATH}",
        f"wss://evil-ssmmessages.eu-west-1.amazonaws.com{PATH}",
        f"wss://x@ssmmessages.eu-west-1.amazonaws.com{PATH}",
        f"wss://ssmmessages.eu-west-1.amazonaws.com\\@evil.example{PATH}",
        f"wss://ssmmessages.eu-west-1\n.amazonaws.com{PATH}",
        f"wss://ssmmessages.eu-west-1.amazonaws.com:0{PATH}",
        f"wss://ssmmessages.eu-west-1.amazonaws.com:99999{PATH}",
        f"wss://[::1{PATH}",
        f"wss://{PATH}",
        f"ftp://ssmmessages.eu-west-1.amazonaws.com{PATH}",
        f"wss://127.0.0.1:9000{PATH}",
        "",
    ],
)
def test_no_other_host_is_trusted(url):
    assert not trusts(url)


def test_an_emulator_on_loopback_may_serve_the_channel_on_loopback():
    assert trusts("ws://localhost:9000/x", ssm="http://127.0.0.1:9000")
    assert trusts("wss://[::1]:9000/x", ssm="http://[::1]:8000")
    assert not trusts("wss://evil.example/x", ssm="http://127.0.0.1:9000")
    # The public service may still be named: a recording proxy for the API, say.
    assert trusts(
        f"wss://ssmmessages.eu-west-1.amazonaws.com{PATH}", ssm="http://[::1]"
    )


def test_the_operators_own_endpoint_is_trusted_with_its_scheme_and_port():
    private = "vpce-1.ssmmessages.eu-west-1.vpce.amazonaws.com"
    assert trusts(f"wss://{private}{PATH}", override=private)
    assert trusts(f"wss://{private}:443{PATH}", override=f"https://{private}")
    assert not trusts(f"wss://{private}:444{PATH}", override=private)
    assert not trusts(f"wss://other{PATH}", override=private)
    assert trusts("ws://127.0.0.1:9000/x", override="http://127.0.0.1:9000")
    assert not trusts("ws://10.0.0.1/x", override="ws://10.0.0.1")


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("host.example", "wss://host.example"),
        ("host.example:8443", "wss://host.example:8443"),
        ("https://host.example/", "wss://host.example"),
        ("http://127.0.0.1:9000", "ws://127.0.0.1:9000"),
        ("ws://[::1]:9000", "ws://[::1]:9000"),
        ("wss://host.example", "wss://host.example"),
    ],
)
def test_an_override_is_a_host_or_a_url(text, endpoint):
    assert parse_override(text) == endpoint


@pytest.mark.parametrize(
    "text",
    [
        "",
        "host.example/path",
        "https://host.example?x=1",
        "https://host.example#x",
        "ftp://host.example",
        "https://me:secret@host.example",
        "two words",
        "host:port",
    ],
)
def test_anything_more_than_a_host_and_port_is_refused(text):
    with pytest.raises(ValueError, match="write"):
        parse_override(text)


def test_an_override_keeps_path_and_query_byte_for_byte():
    url = f"wss://ssmmessages.eu-west-1.amazonaws.com{PATH}"
    assert apply_override(url, "10.1.2.3:8443") == f"wss://10.1.2.3:8443{PATH}"
    assert apply_override(url, None) == url
    assert apply_override(url, "") == url
    assert apply_override("wss://host?x=/", "other") == "wss://other?x=/"
    assert apply_override("wss://host", "other") == "wss://other"


def test_a_url_for_people_has_neither_query_nor_user():
    assert (
        without_query(f"wss://u:p@host:1{PATH}#f")
        == "wss://host:1/v1/data-channel/a@b-0f"
    )


@pytest.mark.parametrize(
    ("region", "opt_in"),
    [
        ("us-east-1", False),
        ("eu-north-1", False),
        ("ap-southeast-2", False),
        ("af-south-1", True),
        ("eu-central-2", True),
        ("ap-southeast-4", True),
        ("us-gov-west-1", False),
        ("cn-north-1", False),
        ("", False),
    ],
)
def test_regions_that_are_off_at_first_are_known(region, opt_in):
    assert is_opt_in(region) is opt_in


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8000", "https://ssm.example/", "https://[::1]:443"]
)
def test_an_endpoint_is_a_url_of_a_host(url):
    check_endpoint(url, "endpoint_url")


@pytest.mark.parametrize(
    "url",
    [
        "no endpoint",
        "ftp://host",
        "https://",
        "https://[::1",
        "https://host:99999",
        "https://host:0",
        "https://me:canary@ho st",
        "https://host\r\nX: y",
        "https://h\u00f6st",
    ],
)
def test_what_is_no_endpoint_is_said_without_its_password(url):
    with pytest.raises(SettingError, match="endpoint_url is") as caught:
        check_endpoint(url, "endpoint_url")
    assert "canary" not in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("url", ["https://[::1", "host", "a?b", "\x00", "://@?#", ""])
def test_a_url_for_people_is_made_of_anything(url):
    assert "?" not in without_query(url)
