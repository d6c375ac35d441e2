"""Defaults of settings, and the conditions that must hold among them."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from ssmtunneld.config.destinations import Destination
from ssmtunneld.config.metadata import path_keys, settings_of
from ssmtunneld.config.model import (
    Config,
    Conflicts,
    DaemonSettings,
    TunnelDefaults,
    TunnelSettings,
)
from ssmtunneld.config.session_documents import (
    PORT_DOCUMENT,
    REMOTE_HOST_DOCUMENT,
    SSH_DOCUMENT,
)
from ssmtunneld.sessions.policy import Policy
from ssmtunneld.sessions.session import SessionSettings
from ssmtunneld.transport.ports import Buffers
from ssmtunneld.transport.websocket import Liveness

BASE = {"name": "db", "listen": [5432], "target": "i-0182d91e", "port": 5432}


def tunnel(**settings):
    table = {**BASE, **settings}
    return TunnelSettings.model_validate(
        {k: v for k, v in table.items() if v is not None}
    )


def conflicts(**settings):
    with pytest.raises(ValidationError) as caught:
        tunnel(**settings)
    (detail,) = caught.value.errors()
    error = detail["ctx"]["error"]
    assert isinstance(error, Conflicts)
    assert all(key in str(error) for key, _ in error.found)
    return dict(error.found)


def test_a_tunnel_needs_little_and_the_rest_has_the_documented_defaults():
    settings = tunnel()
    assert (settings.warm, settings.max_sessions, settings.streams_per_session) == (
        1,
        4,
        64,
    )
    assert (settings.idle_close, settings.keep_alive) == (300.0, 300.0)
    assert (settings.connect_timeout, settings.linger) == (15.0, 60.0)
    assert (settings.ping_interval, settings.dead_peer_timeout) == (20.0, 40.0)
    assert (settings.stream_buffer, settings.session_buffer) == (1 << 20, 8 << 20)
    assert (settings.max_connections, settings.socket_mode) == (1000, 0o600)
    assert (settings.message_size, settings.message_limit) == ("auto", 8192)
    assert tunnel(message_size=1024).message_limit == 1024
    assert settings.required
    assert settings.max_session_age is None
    daemon = DaemonSettings()
    assert (daemon.log_level, daemon.log_format) == ("info", "auto")
    assert (daemon.drain_timeout, daemon.start_rate, daemon.start_burst) == (
        30.0,
        2.0,
        4,
    )


def test_the_defaults_of_components_are_those_of_the_file():
    usual = TunnelDefaults()
    pool, buffers, liveness = Policy(), Buffers(), Liveness()
    assert (pool.warm, pool.max_sessions) == (usual.warm, usual.max_sessions)
    assert pool.streams_per_session == usual.streams_per_session
    assert pool.idle_close == usual.idle_close
    assert buffers == Buffers(usual.stream_buffer, usual.session_buffer)
    assert liveness == Liveness(usual.ping_interval, usual.dead_peer_timeout)
    assert SessionSettings().keep_alive == usual.keep_alive


def test_defaults_satisfy_their_own_bounds():
    for model in (DaemonSettings, TunnelDefaults):
        written = model().model_dump(mode="json", exclude_none=True)
        assert model.model_validate(written, context={}) == model()


def test_settings_are_frozen():
    with pytest.raises(ValidationError, match="frozen"):
        tunnel().warm = 2


def test_what_is_written_as_json_reads_back_the_same():
    one = tunnel(
        listen=["localhost:1", "unix:/run/x", "10.0.0.1:2"],
        allow=["10.0.0.0/8"],
        document="Custom",
        parameters={"a": "b"},
        keep_alive=False,
        max_session_age="1h30m",
        socket_mode="0660",
    )
    written = one.model_dump(mode="json", exclude_none=True)
    assert written["max_session_age"] == "1h30m"
    assert written["allow"] == ["10.0.0.0/8"]
    assert TunnelSettings.model_validate(written, context={}) == one


def test_the_document_follows_from_the_host():
    assert tunnel().session_document == PORT_DOCUMENT
    assert tunnel(host="db.example.com").session_document == REMOTE_HOST_DOCUMENT
    assert tunnel(cluster="prod").session_document == REMOTE_HOST_DOCUMENT
    assert tunnel(document="Custom", host="db").session_document == "Custom"


def test_the_port_of_a_cluster_is_known():
    assert tunnel(cluster="prod", port=None).port == 443
    assert tunnel(cluster="prod", port=8443).port == 8443


@pytest.mark.parametrize("name", ["prod", "Prod_2", "0-a", "a" * 100])
def test_names_of_clusters_are_those_of_eks(name):
    assert tunnel(cluster=name).cluster == name


@pytest.mark.parametrize("name", ["", "-a", "a.b", "a/b", "a" * 101, "é"])
def test_what_eks_would_not_take_for_a_name_is_refused(name):
    with pytest.raises(ValidationError, match="is not the name of an EKS cluster"):
        tunnel(cluster=name)


@pytest.mark.parametrize(
    ("settings", "key", "words"),
    [
        ({"warm": 5}, "warm", "above max_sessions (4)"),
        (
            {"dead_peer_timeout": "20s"},
            "dead_peer_timeout",
            "above ping_interval (20 s)",
        ),
        (
            {"session_buffer": "64KiB"},
            "session_buffer",
            "stream_buffer (1048576 bytes)",
        ),
        ({"port": None}, "port", f"is required by {PORT_DOCUMENT}"),
        (
            {"port": None, "host": "db"},
            "port",
            f"is required by {REMOTE_HOST_DOCUMENT}",
        ),
        ({"document": PORT_DOCUMENT, "host": "db"}, "host", "cannot be used with"),
        ({"document": SSH_DOCUMENT, "host": "db"}, "host", "cannot be used with"),
        ({"document": REMOTE_HOST_DOCUMENT}, "host", "is required by"),
        ({"host": "127.0.0.1"}, "host", "own loopback"),
        ({"host": "localhost"}, "host", "own loopback"),
        ({"cluster": "prod", "host": "db"}, "cluster", "cannot be used with host"),
        *[
            ({"cluster": "prod", "document": name}, "cluster", f"used with {name}")
            for name in (PORT_DOCUMENT, SSH_DOCUMENT, "Custom")
        ],
        ({"parameters": {"a": "b"}}, "parameters", "are for custom documents"),
        (
            {"document": "Custom", "parameters": {"portNumber": "1"}},
            "port",
            "contradicts parameters.portNumber",
        ),
        (
            {"document": "Custom", "host": "db", "parameters": {"host": "x"}},
            "host",
            "contradicts parameters.host",
        ),
        ({"listen": "0.0.0.0:80"}, "allow", "0.0.0.0:80 is open to other machines"),
        ({"listen": [1, "[::]:80"]}, "allow", "[::]:80 is open to other machines"),
        ({"allow": ["10.0.0.0/8"]}, "allow", "has no effect"),
        ({"destinations": ["*:1"]}, "destinations", "without mode"),
        ({"max_destinations": 3}, "max_destinations", "without mode"),
        ({"mode": "socks5", "port": None}, "destinations", "is required by mode"),
        *[
            (
                {"mode": "http-connect", "port": None, "destinations": ["*:1"], **own},
                key,
                "cannot be used in mode http-connect",
            )
            for key, own in {
                "port": {"port": 1},
                "host": {"host": "db"},
                "cluster": {"cluster": "prod"},
                "document": {"document": "Custom"},
                "parameters": {"parameters": {"a": "b"}},
                "warm": {"warm": 1},
                "probe": {"probe": "tcp"},
            }.items()
        ],
        ({"allow": ["10.0.0.0/8"], "listen": "unix:/x"}, "allow", "has no effect"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(settings, key, words):
    found = conflicts(**settings)
    assert list(found) == [key]
    assert words in found[key]


def test_all_conflicts_are_reported_at_once():
    found = conflicts(warm=5, dead_peer_timeout=1, port=None)
    assert list(found) == ["warm", "dead_peer_timeout", "port"]


@pytest.mark.parametrize(
    "settings",
    [
        {"warm": 0, "max_sessions": 1},
        {"warm": 4, "max_sessions": 4},
        {"port": None, "document": SSH_DOCUMENT},
        {"port": None, "document": "Custom", "parameters": {"portNumber": "1"}},
        {"document": "Custom", "host": "127.0.0.1"},
        {"document": "Custom", "port": 5432, "parameters": {"portNumber": "5432"}},
        {"document": REMOTE_HOST_DOCUMENT, "host": "db"},
        {"document": REMOTE_HOST_DOCUMENT, "cluster": "prod"},
        {"listen": "0.0.0.0:80", "allow": ["10.0.0.0/8"]},
        {"session_buffer": "1MiB"},
    ],
)
def test_settings_at_the_edge_are_accepted(settings):
    tunnel(**settings)


def test_a_configuration_has_a_tunnel(tmp_path):
    source = tmp_path / "c.toml"
    assert Config(source=source, daemon=DaemonSettings(), tunnels=(tunnel(),))
    with pytest.raises(ValidationError, match="at least 1 item"):
        Config(source=source, daemon=DaemonSettings(), tunnels=())


def daemon_conflicts(**settings):
    with pytest.raises(ValidationError) as caught:
        DaemonSettings.model_validate(settings)
    (detail,) = caught.value.errors()
    return dict(detail["ctx"]["error"].found)


def test_the_http_listener_is_off_unless_it_is_asked_for():
    daemon = DaemonSettings()
    assert (daemon.http_listen, daemon.http_allow, daemon.http_hosts) == ((), (), ())


@pytest.mark.parametrize("listen", [9300, "localhost:9300", ["localhost:9300"]])
def test_one_address_of_the_http_listener_may_stand_for_a_list(listen):
    daemon = DaemonSettings.model_validate({"http_listen": listen})
    assert [str(address) for address in daemon.http_listen] == ["localhost:9300"]


def test_names_of_the_http_listener_are_kept_as_they_are_compared():
    daemon = DaemonSettings.model_validate(
        {"http_listen": 9300, "http_hosts": ["Tunnels.Example.COM.", "pod-1"]}
    )
    assert daemon.http_hosts == ("tunnels.example.com", "pod-1")


def test_an_http_listener_for_other_machines_needs_networks():
    found = daemon_conflicts(http_listen=["127.0.0.1:9300", "0.0.0.0:9300"])
    assert "0.0.0.0:9300 is open to other machines" in found["http_allow"]
    DaemonSettings.model_validate(
        {"http_listen": "0.0.0.0:9300", "http_allow": ["10.0.0.0/8"]}
    )


@pytest.mark.parametrize("listen", [[], 9300, "unix:/run/x.sock"])
def test_networks_for_an_http_listener_that_is_local_are_a_mistake(listen):
    found = daemon_conflicts(http_listen=listen, http_allow=["10.0.0.0/8"])
    assert "has no effect" in found["http_allow"]


def test_names_for_no_http_listener_are_a_mistake():
    found = daemon_conflicts(http_hosts=["tunnels.example.com"])
    assert found == {"http_hosts": "has no effect without http_listen"}


@pytest.mark.parametrize("key", ["external_id", "role_session_name", "mfa_serial"])
def test_what_belongs_to_a_role_needs_one(key):
    assert conflicts(**{key: "something"}) == {key: "has no effect without role_arn"}
    role = "arn:aws:iam::111122223333:role/Bastion"
    assert getattr(tunnel(role_arn=role, **{key: "something"}), key) == "something"


def test_a_tunnel_whose_clients_name_the_destination_reads_back_the_same_too():
    one = tunnel(mode="socks5", destinations=["*.corp.test:443"], port=None)
    assert one.warm == 0
    written = one.model_dump(mode="json", exclude_none=True)
    assert written["destinations"] == ["*.corp.test:443"]
    assert TunnelSettings.model_validate(written, context={}) == one


def test_sessions_to_a_destination_have_its_settings():
    one = tunnel(
        mode="socks5", destinations=["*:*"], port=None, max_sessions=3, linger="7s"
    )
    assert one.is_dynamic
    assert one.session_limit == 3 * 16
    towards = one.towards(Destination("db", 5432))
    assert (towards.host, towards.port, towards.warm) == ("db", 5432, 0)
    assert (towards.linger, towards.max_sessions) == (7, 3)
    assert not towards.is_dynamic
    assert towards.session_document == REMOTE_HOST_DOCUMENT
    itself = one.towards(Destination("localhost", 80))
    assert (itself.host, itself.session_document) == (None, PORT_DOCUMENT)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({}, "localhost:5432"),
        ({"host": "db"}, "db:5432"),
        ({"cluster": "prod", "port": None}, "eks/prod:443"),
        ({"port": None, "document": "Custom"}, "as Custom says"),
        ({"port": None, "document": SSH_DOCUMENT}, "localhost"),
        ({"document": "Custom", "host": "db"}, "db:5432"),
        (
            {
                "document": "Custom",
                "port": None,
                "parameters": {"host": "db", "portNumber": "1"},
            },
            "db:1",
        ),
        ({"port": None, "mode": "socks5", "destinations": ["a:1"]}, "a:1"),
        (
            {"port": None, "mode": "socks5", "destinations": ["a:1", "b:2", "c:3"]},
            "a:1 (+2)",
        ),
    ],
)
def test_a_tunnel_says_where_it_leads(settings, text):
    one = tunnel(**{"port": 5432, **settings})
    assert one.destination == text
    assert tunnel(port=5432, max_sessions=3).session_limit == 3


ENTRY = {"instance_connect": True, "instance_connect_user": "ubuntu", "port": 22}


def test_a_key_is_pushed_to_the_target_itself_if_it_may_be_an_instance():
    for target in ("i-0182d91e", "name:web", "asg:web", "ip:10.0.0.5"):
        assert tunnel(target=target, **ENTRY).instance_connect
    for target in ("mi-0123456789abcdef0", "ecs:prod/api"):
        wrong = f"is only for EC2 instances, not {target}"
        assert conflicts(target=target, **ENTRY) == {"instance_connect": wrong}
    wrong = "is for the target itself: leave out host"
    assert conflicts(host="db", **ENTRY) == {"instance_connect": wrong}
    wrong = wrong.replace("host", "cluster")
    assert conflicts(cluster="prod", **ENTRY) == {"instance_connect": wrong}


def test_access_is_requested_for_nodes():
    assert tunnel(port=22).access == "direct"
    for target in ("i-0182d91e", "mi-0123456789abcdef0", "name:web", "tag:A=b"):
        assert tunnel(target=target, port=22, access="request").access == "request"
    for target in ("ecs:prod/api", "ecs:prod_0123456789abcdef_0123-1"):
        wrong = f"is only for instances and managed nodes, not {target}"
        found = conflicts(target=target, port=22, access="request")
        assert found == {"access": wrong}


def test_a_key_needs_a_user_and_a_user_a_key(tmp_path):
    assert conflicts(instance_connect=True) == {
        "instance_connect_user": "is required: the user to log in as, such as ec2-user"
    }
    key = tmp_path / "key.pub"
    key.touch()
    found = conflicts(instance_connect_user="me", instance_connect_key=str(key))
    assert found == dict.fromkeys(
        ("instance_connect_user", "instance_connect_key"),
        "has no effect without instance_connect = true",
    )


@pytest.mark.parametrize("user", ["a b", "-x", "", "a" * 33, "a/b", "123"])
def test_nobody_has_such_a_name(user):
    with pytest.raises(ValidationError, match="is not a user of an instance"):
        tunnel(**{**ENTRY, "instance_connect_user": user})


@pytest.mark.parametrize("user", ["ubuntu", "ec2-user", "me@corp.example", "1a"])
def test_somebody_has_such_a_name(user):
    settings = tunnel(**{**ENTRY, "instance_connect_user": user})
    assert settings.instance_connect_user == user


def test_every_path_among_the_defaults_is_marked_as_relative_to_its_file():
    paths = [s.key for s in settings_of(TunnelDefaults) if s.kind == "path of a file"]
    assert list(path_keys(TunnelDefaults)) == paths


def test_a_tunnel_runs_and_is_in_no_group_unless_the_file_says_so():
    settings = tunnel()
    assert (settings.enabled, settings.groups) == (True, ())
    config = Config(
        source=Path("c.toml"),
        daemon=DaemonSettings(),
        tunnels=(settings, tunnel(name="old", enabled=False, groups="a")),
    )
    assert [t.name for t in config.enabled] == ["db"]
    assert config.tunnels[1].groups == ("a",)
