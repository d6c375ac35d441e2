"""docs/databases.md, typed, as far as there are clients and servers."""

import pytest

from ssmtunneld.emulator.settings import Node
from tests.integration.world import tunnel
from tests.interop import servers
from tests.interop.conftest import _need
from tests.interop.names import may_replace_hosts, with_hosts
from tests.support import moto
from tests.support.ports import free_port
from tests.typed.conftest import DATABASE, OTHERS
from tests.typed.page import plays

PAGE = "docs/databases.md"
NODES = {"i-0182d91e85d69cf00": Node(tags={"Role": "bastion"})}
LOCAL = "127.0.1.2"


@pytest.fixture
def orders(script, on_stage, postgresql, authority):
    """The stage with the first file of the page; ``stage.local`` is the port of it."""
    local = free_port()
    replaced = {
        f"{LOCAL}:5432": f"{LOCAL}:{local}",
        # What stands behind another port has to be said.
        "port = 5432": f'port = {postgresql.port}\ndb_engine = "postgres"',
        "PGPORT=5432": f"PGPORT={local}",
        "amazonaws.com:5432": f"amazonaws.com:{local}",
        "/home/me": "HOME",  # below, once the home is known
        "%2Fhome%2Fme": "HOME",
    }
    settings = {"nodes": NODES, "host_aliases": {DATABASE: "127.0.0.1"}}
    with on_stage(replaced, **settings) as (_, stage):
        stage.replaced["/home/me"] = str(stage.home)
        stage.replaced["%2Fhome%2Fme"] = str(stage.home).replace("/", "%2F")
        stage.write(script.page.block(""))
        stage.write(authority.bundle.read_text(), f"{stage.folder}/global-bundle.pem")
        # Where psql looks for services is not the home of every version.
        stage.environ["PGSERVICEFILE"] = str(stage.home / ".pg_service.conf")
        yield stage


@plays(PAGE, "The client: ssmtunneld connect NAME")
def test_connect_runs_psql(script, orders):
    with orders.terminal(script.next("ssmtunneld connect orders-db").text) as terminal:
        terminal.wait_for(r"psql \(\d+")
        # Its words differ from version to version.
        terminal.wait_for(r"SSL connection \(protocol: TLSv1\.[23], cipher: \S+")
        terminal.wait_for("orders=> ")
        terminal.type("\\q\r")
        assert terminal.close() == 0
    command = script.next("ssmtunneld connect -v orders-db")
    done = orders.run(command.text)
    said, answer = command.shown.splitlines()
    assert done.stdout == f"{answer}\n"
    assert done.stderr.splitlines()[-1] == orders.here(said).replace(
        "/usr/bin/psql", servers.find("psql")
    )


@plays(PAGE, "The environment: ssmtunneld env NAME")
def test_the_environment_leads_psql_there(script, orders):
    with orders.daemon():
        command = script.next("ssmtunneld env orders-db")
        assert orders.run(command.text).stdout == orders.here(command.shown)
        ask = "select ssl from pg_stat_ssl where pid = pg_backend_pid();"
        done = orders.run(script.next("eval ").text, data=ask)
        assert done.stdout.split()[2] == "t"
        orders.run(
            script.words(
                "ssmtunneld env orders-db --format pgservice >>~/.pg_service.conf"
            )
        )
        done = orders.run(script.words("psql service=orders-db"), data=ask)
        assert done.stdout.split()[2] == "t"
        for form in ("json", "dotenv", "uri", "jdbc", "dbeaver", "datagrip", "fish"):
            assert f"| `{form}` |" in script.page.text
            done = orders.run(f"ssmtunneld env orders-db --format {form}")
            # The hosts file is not there to lead Java and others by the name.
            assert LOCAL in done.stdout


@plays(PAGE, "A password by IAM: ssmtunneld db-token NAME")
def test_psql_takes_a_password_by_iam(script, orders):
    with orders.daemon():
        orders.keep(script.next("eval ").text)
        show = "\\! printenv PGPASSWORD PGSSLMODE"
        done = orders.run(script.next("PGPASSWORD=").text, data=show)
        token, mode = done.stdout.split()
        assert token.startswith(f"{DATABASE}:")
        assert "Action=connect&DBUser=app" in token
        assert mode == "verify-full"
        done = orders.run("psql", data="select 6 * 7;")
        assert "42" in done.stdout


@plays(PAGE, "The hosts file: ssmtunneld hosts")
def test_the_hosts_file_leads_names_into_tunnels(script, orders):
    if not may_replace_hosts():
        pytest.skip("nobody here may put another file in the place of /etc/hosts")
    hosts = orders.home / "hosts"
    hosts.write_text("127.0.0.1\tlocalhost\n")
    command = script.next("ssmtunneld hosts")
    done = orders.run(command.text, before=with_hosts(hosts))
    assert done.stdout == command.shown
    # The page shows what becomes of this without permission; here there is one.
    script.next("ssmtunneld hosts --write")
    orders.run("ssmtunneld hosts --write", before=with_hosts(hosts))
    found = orders.run(f"getent hosts {DATABASE}", before=with_hosts(hosts))
    assert found.stdout.split()[0] == LOCAL
    again = orders.run("ssmtunneld hosts", before=with_hosts(hosts))
    assert "+" not in again.stdout


@plays(PAGE, "Redis Cluster")
def test_redis_cli_follows_a_cluster(script, on_stage, tmp_path):
    _need("redis-server", "redis-cli", "proxychains4")
    if not may_replace_hosts():
        pytest.skip("nobody here may put another file in the place of /etc/hosts")
    # The second of the page's two has the key of the page's command.
    names = [f"cache-000{n}-001.abc.euw1.cache.amazonaws.com" for n in (1, 3, 2)]
    addresses = {name: f"127.0.79.{n}" for n, name in enumerate(names, 1)}
    with servers.redis_cluster(tmp_path, addresses) as cluster:
        socks = free_port()
        replaced = {
            ':6379"': f':{cluster.port}"',
            "port = 6379": f"port = {cluster.port}",
            "localhost:1080": f"localhost:{socks}",
            "127.0.0.1 1080": f"127.0.0.1 {socks}",
            # It is the port of the tunnels that is another one here.
            "redis-cli -c": f"redis-cli -p {cluster.port} -c",
        }
        any_of_them = "clustercfg.cache.abc.euw1.cache.amazonaws.com"
        aliases = {**addresses, any_of_them: addresses[names[0]]}
        settings = {"nodes": NODES, "host_aliases": aliases}
        with on_stage(replaced, **settings) as (emulator, stage):
            stage.write(script.block() + script.block(number=1))
            stage.program("sudo", 'exec "$@"')
            hosts = stage.home / "hosts"
            hosts.write_text("127.0.0.1\tlocalhost\n")
            with stage.daemon():
                stage.run(script.next("sudo ").text, before=with_hosts(hosts))
                done = stage.run(
                    script.next("redis-cli -c").text, before=with_hosts(hosts)
                )
                assert done.stdout.split() == ["OK"]
                assert cluster.ask(addresses[names[2]], "get", "key") == "value\n"
                cluster.ask(addresses[names[2]], "del", "key")
                stage.run(script.next("printf ").text)
                done = stage.run(script.next("proxychains4 ").text)
                assert done.stdout.split() == ["OK"]
                assert cluster.ask(addresses[names[2]], "get", "key") == "value\n"
            reached = {s["properties"]["host"] for s in emulator.sessions()}
            assert {names[0], names[2], any_of_them} <= reached


@plays(PAGE, "PostgreSQL: primary and standby")
def test_psql_looks_for_the_one_that_takes_writes(script, on_stage, postgresql):
    # Which of two it finds is played in tests/interop; here both lead to one.
    local = free_port()
    replaced = {
        "127.0.1.21:5432": f"127.0.1.21:{local}",
        "127.0.1.22:5432": f"127.0.1.22:{local}",
        "port = 5432": f"port = {postgresql.port}",
        "port=5432": f"port={local}",
    }
    names = ("db-1.example.internal", "db-2.example.internal")
    settings = {"nodes": NODES, "host_aliases": dict.fromkeys(names, "127.0.0.1")}
    with on_stage(replaced, **settings) as (_, stage):
        stage.write(script.block())
        with stage.daemon():
            done = stage.run(script.next("psql ").text, data="select 6 * 7;")
            assert "42" in done.stdout
            stage.run(script.words("ssmtunneld pause db-1"))
            stage.run(script.words("ssmtunneld resume db-1"))


@plays(PAGE, "Redshift")
def test_redshift_says_who_the_user_is(script, on_stage, postgresql, authority):
    (name,) = OTHERS
    own = tunnel(
        "sales",
        listen="127.0.0.1:0",
        target="tag:Role=bastion",
        host=name,
        port=postgresql.port,
        db_engine="postgres",
        db_user="app",
        db_name="orders",
        profile="prod",
    )
    settings = {"nodes": NODES, "host_aliases": {name: "127.0.0.1"}}
    postgresql.psql(postgresql.port, "-c", 'create role "IAM:app" login')
    with moto.running() as cloud, on_stage({}, **settings) as (_, stage):
        redshift = cloud.client("redshift")
        redshift.create_cluster(
            ClusterIdentifier="sales",
            NodeType="ra3.large",
            MasterUsername="admin",
            MasterUserPassword="Password1",
            ClusterType="single-node",
        )
        redshift.close()
        stage.environ["AWS_ENDPOINT_URL_REDSHIFT"] = cloud.url
        # Those of Redshift are signed by whom every system trusts.
        stage.environ["PGSSLROOTCERT"] = str(authority.bundle)
        stage.profiles("prod")
        stage.write(own)
        with stage.daemon():
            done = stage.run(script.next("eval ").text, data="select current_user;")
        assert "IAM:app" in done.stdout
