"""Servers of which there are several, and clients that must get to the right one.

A Redis Cluster sends its clients on to names that only it knows: they lead into tunnels
by a hosts file, or by SOCKS. libpq asks each of two servers whether it takes writes.
"""

import pytest

from tests.interop import servers
from tests.interop.conftest import _command, _need, tunnel_table
from tests.interop.names import may_replace_hosts, run_way, socks_table, with_hosts
from tests.interop.programs import run
from tests.support.ports import free_port

# A key in each third of the slots, and the master that has it.
KEYS = {"b": "node-1", "c": "node-2", "a": "node-3"}


@pytest.fixture(scope="module")
def by_hosts(redis_cluster, tmp_path_factory):
    """A tunnel for each master, on a loopback address of its own."""
    port = redis_cluster.port
    text = "".join(
        tunnel_table(f"node-{n}", 0, port, host=name, listen=f"127.0.77.{n}:{port}")
        for n, name in enumerate(redis_cluster.addresses, start=11)
    )
    folder = tmp_path_factory.mktemp("by-hosts")
    with run_way(text, redis_cluster.addresses, folder) as way:
        yield way


@pytest.fixture(scope="module")
def by_socks(redis_cluster, tmp_path_factory):
    """One SOCKS tunnel to all masters, and the file with which proxychains uses it."""
    _need("proxychains4")
    local = free_port()
    text = socks_table(local, f"*.cache.example.internal:{redis_cluster.port}")
    folder = tmp_path_factory.mktemp("by-socks")
    with run_way(text, redis_cluster.addresses, folder) as way:
        proxychains = folder / "proxychains.conf"
        proxychains.write_text(
            f"strict_chain\nproxy_dns\n[ProxyList]\nsocks5 127.0.0.1 {local}\n"
        )
        yield way, proxychains


def use_every_shard(redis_cluster, value, *before):
    """Write and read a key of each master, beginning at the first; check the way."""
    first, *_ = redis_cluster.addresses
    commands = [f"set {key} {value}\nget {key}\n" for key in KEYS]
    said = run(
        *(*before, servers.find("redis-cli"), "-c", "-h", first),
        *("-p", redis_cluster.port),
        data="".join(commands),
    )
    # Never by an address: one would be reached here without any tunnel.
    moved = [line for line in said.splitlines() if line.startswith("-> Redirected")]
    assert [line.split(" located at ")[1] for line in moved] == [
        f"{master}.cache.example.internal:{redis_cluster.port}"
        for master in list(KEYS.values())[1:]
    ]
    assert [line for line in said.splitlines() if line not in moved] == [
        *("OK", value) * len(KEYS)
    ]
    masters = zip(KEYS, redis_cluster.addresses.values(), strict=True)
    for key, address in masters:
        assert redis_cluster.ask(address, "get", key) == f"{value}\n"


def test_redis_cli_follows_names_that_the_hosts_file_leads_into_tunnels(
    by_hosts, redis_cluster
):
    if not may_replace_hosts():
        pytest.skip("nobody here may put another file in the place of /etc/hosts")
    use_every_shard(redis_cluster, "hosts", *with_hosts(by_hosts.hosts_file()))
    assert by_hosts.hosts() == set(redis_cluster.addresses)


def test_redis_cli_follows_names_through_socks(by_socks, redis_cluster):
    way, proxychains = by_socks
    assert way.hosts() == set()
    before = servers.find("proxychains4"), "-q", "-f", proxychains
    use_every_shard(redis_cluster, "socks", *before)
    assert way.hosts() == set(redis_cluster.addresses)


@pytest.fixture
def pair():
    """A PostgreSQL, and another one that follows it."""
    _need("initdb", "postgres", "pg_basebackup", "psql")
    with servers.postgresql() as primary, servers.standby(primary) as standby:
        yield primary, standby


def test_psql_finds_the_server_that_takes_writes_and_the_one_after_it(pair, tmp_path):
    primary, standby = pair
    names = ("db-1.example.internal", "db-2.example.internal")
    addresses, local = ("127.0.77.21", "127.0.77.22"), free_port()
    text = "".join(
        tunnel_table(name[:4], 0, server.port, host=name, listen=f"{address}:{local}")
        for name, address, server in zip(names, addresses, pair, strict=True)
    )

    def server(kind):
        """Return the port of the first server of this kind, as it tells it."""
        places = f"host={','.join(names)} hostaddr={','.join(addresses)} port={local}"
        login = f"user={primary.user} dbname=postgres target_session_attrs={kind}"
        ask = ("-X", "-At", "-c", "select inet_server_port()")
        return int(run(servers.find("psql"), f"{places} {login}", *ask))

    with run_way(text, dict.fromkeys(names, "127.0.0.1"), tmp_path) as way:
        assert server("read-write") == primary.port
        assert server("standby") == server("prefer-standby") == standby.port
        primary.program.kill()
        standby.psql(standby.port, "-c", "select pg_promote()")
        # A local port that accepts and then resets is the end of the list for libpq.
        run(*_command("pause", "db-1", "-c", way.file))
        assert server("read-write") == server("prefer-standby") == standby.port
        assert way.hosts() == set(names)
