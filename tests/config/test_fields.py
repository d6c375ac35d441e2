"""Single settings, read through the models that hold them."""

from ipaddress import ip_network
from pathlib import Path
from typing import Annotated

import pytest
from pydantic import TypeAdapter, ValidationError

from ssmtunneld.config import fields
from ssmtunneld.config.model import DaemonSettings, TunnelDefaults, TunnelSettings
from ssmtunneld.config.parsers import TcpAddress, UnixAddress


def read(**settings):
    return TunnelDefaults.model_validate(settings, context={})


def complaint(key, value, model=TunnelDefaults):
    with pytest.raises(ValidationError) as caught:
        model.model_validate({key: value}, context={})
    (detail,) = caught.value.errors()
    assert detail["loc"][0] == key
    # hide_input_in_errors: what pydantic prints by itself must not quote the value.
    assert "input_value" not in str(caught.value)
    return detail["msg"]


@pytest.mark.parametrize(
    "target",
    [
        "i-0182d91e",
        "i-0182d91e85d69cf00",
        "mi-0123456789abcdef0",
        "ecs:prod_web_0a1b2c3d4e5f60718293a4b5c6d7e8f9_0a1b2c3d4e5f60718293a4b5c6d7e8f9-2531612879",
    ],
)
def test_ids_are_targets(target):
    assert read(target=target).target == target


@pytest.mark.parametrize(
    "target",
    [
        "",
        "i-123",
        "i-0182D91E",
        "mi-0182d91e",
        "i-0182d91e\n",
        "10.0.0.1",
    ],
)
def test_what_is_no_target_is_refused(target):
    assert "is not a target: " in complaint("target", target)


def test_several_tags_are_one_target():
    tags = ["tag:Role=bastion", "tag:Env=prod"]
    assert read(target=tags).target == "tag:Role=bastion,tag:Env=prod"


@pytest.mark.parametrize("target", [["i-0182d91e", "i-0182d91f"], ["tag:A=b", 1], []])
def test_only_tags_go_together(target):
    assert "is not" in complaint("target", target) or "list of" in complaint(
        "target", target
    )


@pytest.mark.parametrize("policy", ["first", "newest", "spread"])
def test_there_are_three_policies(policy):
    assert read(target_policy=policy).target_policy == policy


def test_a_role_is_an_arn():
    arn = "arn:aws-us-gov:iam::111122223333:role/team/Bastion"
    assert read(role_arn=arn).role_arn == arn
    assert "write arn:aws:iam::" in complaint("role_arn", "Bastion")


@pytest.mark.parametrize(
    "serial", ["arn:aws:iam::111122223333:mfa/me@home", "GAHT12345678"]
)
def test_a_device_is_an_arn_or_a_number(serial):
    role = {"role_arn": "arn:aws:iam::111122223333:role/Bastion"}
    assert read(mfa_serial=serial, **role).mfa_serial == serial
    assert "is not a device" in complaint("mfa_serial", "my phone")


def test_a_role_session_name_is_what_sts_takes():
    role = {"role_arn": "arn:aws:iam::111122223333:role/Bastion"}
    assert read(role_session_name="me@host", **role).role_session_name == "me@host"
    assert "is not a session name" in complaint("role_session_name", "a b")


@pytest.mark.parametrize("name", ["a", "0", "orders-db_2", "x" * 63])
def test_names_are_short_and_plain(name):
    tunnel = TunnelSettings(
        name=name, listen=(TcpAddress("::1", 1),), target="i-0182d91e", port=1
    )
    assert tunnel.name == name


@pytest.mark.parametrize("name", ["", "A", "-a", "a b", "x" * 64, "a.b", "ü"])
def test_other_names_are_refused(name):
    with pytest.raises(ValidationError, match="is not a tunnel's name"):
        TunnelSettings(
            name=name, listen=(TcpAddress("::1", 1),), target="i-0182d91e", port=1
        )


@pytest.mark.parametrize(
    "region",
    ["eu-west-1", "us-gov-east-1", "us-isob-east-1", "eusc-de-east-1", "cn-north-1"],
)
def test_regions_of_every_partition_are_known_by_their_shape(region):
    assert read(region=region).region == region


@pytest.mark.parametrize(
    "region", ["", "eu-west-1a", "EU-WEST-1", "eu-west-1.evil.com"]
)
def test_what_is_no_region_is_refused(region):
    assert "is not a region" in complaint("region", region)


@pytest.mark.parametrize(
    "host", ["db", "db.example.com", "a_b.example.com.", "10.0.0.7", "fd00::1"]
)
def test_hosts_are_names_or_addresses(host):
    assert read(host=host).host == host


@pytest.mark.parametrize(
    "host", ["", "db:5432", "[::1]", "http://db", "a b", "-x", "x" * 254, "db/1", "a\n"]
)
def test_what_is_no_host_is_refused(host):
    assert "write only a name or an IP address" in complaint("host", host)


@pytest.mark.parametrize(
    ("host", "cure"),
    [
        ("127.1", "is read as 127.0.0.1, the target's own loopback: leave out host"),
        ("2130706433", "is read as 127.0.0.1, the target's own loopback"),
        ("0x7f.1.", "is read as 127.0.0.1, the target's own loopback"),
        ("10.5", "is read as 10.0.0.5: write it so"),
        ("010.0.0.1", "is read as 8.0.0.1: write it so"),
        ("10.0.0.256", "is not an IP address: write four numbers up to 255"),
        ("1.2.3.4.", "is read as 1.2.3.4: write it so"),
        ("0.0.0.0", "is the address of no host"),
        ("::", "is the address of no host"),
        ("224.0.0.1", "is a multicast address"),
        ("ff02::1", "is a multicast address"),
        ("255.255.255.255", "is the broadcast address"),
        ("fe80::1%eth0", "has a zone, which means nothing elsewhere: write fe80::1"),
    ],
)
def test_a_host_that_nobody_can_connect_to_is_refused_with_what_to_write(host, cure):
    assert cure in complaint("host", host)


def test_documents_have_the_service_s_names():
    for document in ("AWS-StartSSHSession", "arn:aws:ssm:eu-west-1:1:document/A_b.c"):
        assert read(document=document).document == document
    for document in ("", "ab", "a b c", "x" * 129):
        assert "is not a document's name" in complaint("document", document)


def test_texts_are_one_printable_line():
    assert read(reason="x" * 256).reason == "x" * 256
    assert "printable" in complaint("reason", "a\nb")
    assert "at most 256" in complaint("reason", "x" * 257)
    assert "at least 1" in complaint("profile", "")


@pytest.mark.parametrize(
    "url",
    [
        "https://ssm.eu-west-1.amazonaws.com",
        "http://127.0.0.1:4566",
        "https://[fd00::1]:8443/base/",
    ],
)
def test_endpoints_are_plain_urls(url):
    assert read(endpoint_url=url).endpoint_url == url


@pytest.mark.parametrize(
    "url",
    [
        "",
        "ssm.eu-west-1.amazonaws.com",
        "ftp://host",
        "https://",
        "https://user:hunter2@host",
        "https://host?token=hunter2",
        "https://host/a b",
        "https://host:port",
    ],
)
def test_other_endpoints_are_refused_without_quoting_them(url):
    message = complaint("endpoint_url", url)
    assert "is not an endpoint" in message
    assert "hunter2" not in message


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("vpce-1.ssmmessages.aws", "vpce-1.ssmmessages.aws"),
        ("https://vpce-1.ssmmessages.aws/", "vpce-1.ssmmessages.aws"),
        ("wss://host:8443", "host:8443"),
        ("[fd00::1]:8443", "[fd00::1]:8443"),
    ],
)
def test_the_data_channel_s_endpoint_is_a_host_and_a_port(written, meant):
    assert read(ssmmessages_endpoint=written).ssmmessages_endpoint == meant


@pytest.mark.parametrize("written", ["", "ws://host", "host/path", "a@host", "host:x"])
def test_the_data_channel_s_endpoint_has_nothing_else(written):
    assert "data channel" in complaint("ssmmessages_endpoint", written)


def test_a_certificate_file_starts_from_the_configuration_s_directory(tmp_path):
    file = tmp_path / "ca.pem"
    file.touch()
    here = {"directory": tmp_path, "home": tmp_path.parent}
    for written in ("ca.pem", str(file), f"~/{tmp_path.name}/ca.pem"):
        settings = TunnelDefaults.model_validate({"ca_bundle": written}, context=here)
        assert settings.ca_bundle == file
    assert TunnelDefaults(ca_bundle=file).ca_bundle == file


def test_a_certificate_file_exists(tmp_path):
    for written in (str(tmp_path), "missing.pem", 7, "x" * 300, "a/" * 3000):
        assert "is not a file" in complaint("ca_bundle", written)


def test_a_file_to_write_starts_from_the_configuration_s_directory(tmp_path):
    here = {"directory": tmp_path, "home": tmp_path.parent}
    for written in ("a.log", f"{tmp_path}/a.log", f"~/{tmp_path.name}/a.log"):
        settings = DaemonSettings.model_validate({"audit_log": written}, context=here)
        assert settings.audit_log == tmp_path / "a.log"
    assert DaemonSettings(audit_log=Path("a.log")).audit_log == Path("a.log")


@pytest.mark.parametrize("written", ["", 7, True, ["a"]])
def test_a_file_to_write_is_named_by_text(written):
    with pytest.raises(ValidationError, match="should be the path of a file"):
        DaemonSettings.model_validate({"audit_log": written})


@pytest.mark.parametrize(
    ("written", "why"), [("a\0b", "has a character"), ("a" * 5000, "is too long")]
)
def test_a_file_to_write_has_a_name_that_a_file_can_have(written, why):
    with pytest.raises(ValidationError, match=why):
        DaemonSettings.model_validate({"audit_log": written})


def test_a_directory_is_no_file_to_write(tmp_path):
    with pytest.raises(ValidationError, match="is a directory"):
        DaemonSettings.model_validate({"audit_log": str(tmp_path)})


def test_one_address_may_stand_without_brackets():
    table = {"name": "a", "target": "i-0182d91e", "port": 1}
    one = TunnelSettings.model_validate({**table, "listen": 5432})
    many = TunnelSettings.model_validate({**table, "listen": ["5432", "unix:/run/x"]})
    assert one.listen == (TcpAddress("localhost", 5432),)
    assert many.listen == (*one.listen, UnixAddress(Path("/run/x")))


def test_there_is_at_least_one_address():
    with pytest.raises(ValidationError, match="at least 1 item"):
        TunnelSettings.model_validate(
            {"name": "a", "target": "i-0182d91e", "listen": []}
        )


def test_networks_are_a_list():
    assert read(allow=["10.0.0.0/8"]).allow == (ip_network("10.0.0.0/8"),)
    assert "valid tuple" in complaint("allow", "10.0.0.0/8")


def test_parameters_are_lists_in_the_end():
    read_back = read(parameters={"a": "x", "b": ["y", "z"]}).parameters
    assert read_back == {"a": ("x",), "b": ("y", "z")}


@pytest.mark.parametrize("values", [[], [1], 7, "", [""]])
def test_parameters_are_texts(values):
    complaint("parameters", {"a": values})


def test_a_mode_in_a_file_is_text_but_a_program_passes_bits():
    assert read(socket_mode="0660").socket_mode == 0o660
    assert TunnelDefaults(socket_mode=0o660).socket_mode == 0o660
    assert "octal text" in complaint("socket_mode", 600)
    with pytest.raises(ValidationError, match="octal text"):
        TunnelDefaults(socket_mode=0o1600)


@pytest.mark.parametrize(
    ("written", "read_as", "back"),
    [("auto", "auto", "auto"), ("8KiB", 8192, "8KiB"), (5000, 5000, "5000B")],
)
def test_a_message_size_is_auto_or_a_size(written, read_as, back):
    found = read(message_size=written)
    assert found.message_size == read_as
    assert found.model_dump(mode="json")["message_size"] == back


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("port", 0),
        ("port", 65536),
        ("port", "5432"),
        ("warm", -1),
        ("warm", True),
        ("warm", 1.0),
        ("max_sessions", 0),
        ("streams_per_session", 0),
        ("max_connections", 0),
        ("idle_close", 0),
        ("keep_alive", 0),
        ("max_session_age", 0),
        ("connect_timeout", "0s"),
        ("ping_interval", 0),
        ("dead_peer_timeout", 0),
        ("linger", -1),
        ("stream_buffer", "1KiB"),
        ("session_buffer", "2GiB"),
        ("message_size", 1023),
        ("message_size", "33KiB"),
        ("message_size", "automatic"),
        ("message_size", True),
        ("message_size", 4096.0),
        ("required", "yes"),
    ],
)
def test_numbers_have_bounds_and_their_own_types(key, value):
    assert complaint(key, value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("log_level", "verbose"),
        ("log_format", "xml"),
        ("drain_timeout", "-1s"),
        ("start_rate", 0),
        ("start_rate", float("nan")),
        ("start_burst", 0),
    ],
)
def test_the_daemon_s_settings_have_bounds_too(key, value):
    assert complaint(key, value, DaemonSettings)


@pytest.mark.parametrize(
    "written",
    [
        "http://proxy.example.com:3128",
        "https://10.0.0.1:443",
        "socks5://[fd00::1]:1080",
        "socks5h://localhost:1080",
        False,
    ],
)
def test_a_proxy_or_none(written):
    assert read(proxy=written).proxy == written


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("http://me:canary@proxy.example.com:3128", "HTTPS_PROXY"),
        ("proxy.example.com:3128", "is not a proxy"),
        ("http://canary.example.com", "is not a proxy"),
        ("http://canary.example.com:80/", "is not a proxy"),
        ("ftp://canary.example.com:21", "is not a proxy"),
        ("", "is not a proxy"),
    ],
)
def test_what_is_no_proxy_is_refused_without_being_quoted(written, words):
    message = complaint("proxy", written)
    assert words in message
    assert "canary" not in message


class Unasked:
    """A type that pydantic must not ask for its description."""

    @classmethod
    def __get_pydantic_core_schema__(cls, *_):
        pytest.fail("asked")


def test_a_type_that_a_function_reads_is_not_described_to_pydantic():
    reading = TypeAdapter(Annotated[Unasked, fields._Read(str)])
    assert reading.validate_python(5) == "5"
    informed = fields._Read(lambda value, info: (value, info.context), informed=True)
    reading = TypeAdapter(Annotated[Unasked, informed])
    assert reading.validate_python(5, context={"a": 1}) == (5, {"a": 1})
    assert not hasattr(fields, "PlainValidator")
