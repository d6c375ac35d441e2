"""The destination of a tunnel, and the address that local programs connect to."""

import pytest

from ssmtunneld.cli.destination import (
    Local,
    bound_end,
    bracketed,
    files_of,
    fixed_tunnel_named,
    is_address,
    local_end,
    origin_of,
    remote_host,
    remote_port,
    tunnel_named,
    tunnels_named,
)
from ssmtunneld.cli.exit_codes import CommandError
from ssmtunneld.config import load_config, parse_config
from tests.cli.household import Household, document, serving, tunnel_document
from tests.integration.world import tunnel


def read(*tables):
    return parse_config("\n".join(tables), "test.toml", {})


def only(**settings):
    return read(tunnel("db", **settings)).tunnels[0]


def test_a_name_that_is_nearly_right_is_corrected():
    config = read(tunnel("orders", listen=1, port=1), tunnel("wiki", listen=2, port=1))
    assert tunnel_named(config, "wiki") is config.tunnels[1]
    with pytest.raises(CommandError) as caught:
        tunnel_named(config, "order")
    assert (caught.value.code, caught.value.advice) == (2, "did you mean orders?")
    with pytest.raises(CommandError) as caught:
        tunnel_named(config, "zzz")
    assert caught.value.advice == "the tunnels are: orders, wiki"


@pytest.mark.parametrize(
    ("mode", "kind"), [("socks5", "SOCKS 5"), ("http-connect", "HTTP")]
)
def test_of_a_proxy_is_said_how_programs_use_it(mode, kind):
    config = read(
        f"[tunnels.browse]\nlisten = 1080\nmode = '{mode}'\ndestinations = ['*:443']\n"
        "target = 'name:x'",
        tunnel("db", listen=1, port=1),
    )
    assert fixed_tunnel_named(config, "db") is config.tunnels[1]
    with pytest.raises(CommandError) as caught:
        fixed_tunnel_named(config, "browse")
    assert (caught.value.code, caught.value.advice) == (
        2,
        f"name localhost:1080 to your program as its {kind} proxy",
    )


def test_a_custom_documents_parameters_say_where_it_leads():
    own = 'parameters = { host = "db.x", portNumber = ["5432"] }'
    found = read(tunnel("db", listen=1, document="Ours") + own).tunnels[0]
    assert (remote_host(found), remote_port(found)) == ("db.x", 5432)
    unclear = 'parameters = { host = ["a", "b"], portNumber = "x" }'
    found = read(tunnel("db", listen=1, document="Ours") + unclear).tunnels[0]
    assert (remote_host(found), remote_port(found)) == (None, None)


@pytest.mark.parametrize(
    ("listen", "local"),
    [
        ("127.0.1.2:1", Local("127.0.1.2", 1)),
        ("localhost:1", Local("127.0.0.1", 1)),
        ("[::1]:1", Local("::1", 1)),
        (["unix:/run/x", "127.0.0.1:0", "127.0.0.1:2"], Local("127.0.0.1", 2)),
        ("unix:/run/x", Local("/run/x", None)),
    ],
)
def test_a_fixed_address_needs_no_daemon(home, listen, local):
    assert local_end(only(listen=listen, port=1), None) == local


@pytest.mark.parametrize(
    ("listen", "host"), [("0.0.0.0:1", "127.0.0.1"), ("[::]:1", "::1")]
)
def test_every_address_means_loopback_here(listen, host):
    found = only(listen=listen, port=1, allow=["10.0.0.0/8"])
    assert local_end(found, None) == Local(host, 1)


def test_a_free_port_is_asked_from_the_daemon(home):
    status = document(tunnel_document("db", listen=["unix:/run/x", "127.0.0.1:34567"]))
    found = only(listen=["unix:/run/x", 0], port=1)
    with serving(Household(status)):
        assert local_end(found, None) == Local("127.0.0.1", 34567)


def test_a_daemon_that_does_not_listen_yet_is_said(home):
    with (
        serving(Household(document(tunnel_document("db", listen=[])))),
        pytest.raises(CommandError, match="does not listen on a TCP address now"),
    ):
        local_end(only(listen=0, port=1), None)


def test_without_a_daemon_a_free_port_is_not_known(home):
    with pytest.raises(CommandError) as caught:
        local_end(only(listen=0, port=1), None)
    assert caught.value.code == 3


def test_without_names_all_that_are_to_run_are_meant():
    config = read(
        tunnel("a", listen=1, port=1),
        tunnel("b", listen=2, port=1, enabled=False),
        tunnel("c", listen=3, port=1),
    )
    assert [t.name for t in tunnels_named(config, ())] == ["a", "c"]
    assert [t.name for t in tunnels_named(config, ("b", "a"))] == ["b", "a"]
    with pytest.raises(CommandError, match="no tunnel is called x"):
        tunnels_named(config, ("a", "x"))


def test_the_files_of_a_configuration_are_told_in_a_few_words(tmp_path):
    main = tmp_path / "c.toml"
    main.write_text('include = "*.toml"\n' + tunnel("a", listen=1, port=1))
    assert files_of(load_config(main, {})) == str(main)
    (tmp_path / "d.toml").touch()
    assert files_of(load_config(main, {})) == f"{main} and 1 included file"


def test_the_file_of_a_tunnel_is_told_as_seen_from_the_main_one(tmp_path):
    main, below = tmp_path / "main" / "c.toml", tmp_path / "main" / "conf.d" / "b.toml"
    beside = tmp_path / "d.toml"
    below.parent.mkdir(parents=True)
    names = {"a": main, "b": below, "d": beside}
    for number, (name, path) in enumerate(names.items(), 1):
        path.write_text(tunnel(name, listen=number, port=1))
    main.write_text('include = ["conf.d/*", "../d.toml"]\n' + main.read_text())
    config = load_config(main, {})
    found = [origin_of(config, name) for name in names]
    assert found == ["", "conf.d/b.toml", "../d.toml"]


@pytest.mark.parametrize(
    ("listen", "local"),
    [
        (["unix:/run/x", "0.0.0.0:5", "127.0.0.1:6"], Local("127.0.0.1", 5)),
        (["[::1]:5"], Local("::1", 5)),
        (["unix:/run/x"], Local("/run/x", None)),
    ],
)
def test_a_daemon_says_where_a_tunnel_is_reached(listen, local):
    assert bound_end(tunnel_document(listen=listen)) == local


def test_a_tunnel_that_does_not_listen_is_reached_nowhere():
    with pytest.raises(CommandError, match="db does not listen now"):
        bound_end(tunnel_document(listen=[]))


def test_hosts_are_told_apart_from_addresses_and_written_as_in_urls():
    assert [is_address(host) for host in ("::1", "10.0.0.1", "db.x")] == [1, 1, 0]
    assert [bracketed(host) for host in ("::1", "db.x")] == ["[::1]", "db.x"]
