"""kafka-python, which a broker sends on to the name that it has advertised.

The broker is Tansu, which speaks Kafka's protocol: no package of Debian, PyPI or npm is
known to have Apache Kafka itself.
"""

import pytest

from tests.interop import servers
from tests.interop.conftest import tunnel_table
from tests.interop.names import may_replace_hosts, run_way, socks_table, with_hosts
from tests.interop.programs import environment, free_port, run

BOOTSTRAP, BROKER = "boot.kafka.example.internal", "b-1.kafka.example.internal"
ADDRESS = "127.0.78.9"

SCRIPT = """
import json, sys
from kafka import KafkaConsumer, KafkaProducer
from kafka.admin import KafkaAdminClient
servers, topic, *proxy = sys.argv[1:]
way = {"bootstrap_servers": servers, "proxy_url": proxy[0] if proxy else None}
admin = KafkaAdminClient(**way)
admin.create_topics([topic])
producer = KafkaProducer(**way)
producer.send(topic, b"one")
producer.send(topic, b"two")
producer.flush(30)
consumer = KafkaConsumer(
    topic, auto_offset_reset="earliest", consumer_timeout_ms=30000, **way
)
# From two partitions, it may be.
print(sorted(next(consumer).value.decode() for _ in range(2)))
print([broker["host"] for broker in admin.describe_cluster()["brokers"]])
"""


@pytest.fixture(scope="module")
def python(client):
    return client("kafka-python") / "bin" / "python"


@pytest.fixture(scope="module")
def port(python, tmp_path_factory):
    """The port of a broker that sends its clients to its own name there."""
    folder, port = tmp_path_factory.mktemp("broker"), free_port()
    with servers.kafka(folder, python, ADDRESS, BROKER, port):
        yield port


@pytest.fixture(scope="module")
def socks_port():
    return free_port()


@pytest.fixture(scope="module")
def way(port, socks_port, tmp_path_factory):
    """A tunnel for each name, and a SOCKS tunnel for both."""
    names = dict.fromkeys((BOOTSTRAP, BROKER), ADDRESS)
    text = "".join(
        tunnel_table(f"broker-{n}", 0, port, host=name, listen=f"127.0.77.{n}:{port}")
        for n, name in enumerate(names, start=31)
    ) + socks_table(socks_port, f"*.kafka.example.internal:{port}")
    with run_way(text, names, tmp_path_factory.mktemp("way")) as way:
        yield way


def use_topic(*command):
    """Produce and consume; the client's broker is a name that leads into a tunnel."""
    said = run(*command, env=environment())
    assert said.splitlines() == [str(["one", "two"]), str([BROKER])]


def test_the_hosts_file_leads_advertised_names_into_tunnels(way, python, port):
    if not may_replace_hosts():
        pytest.skip("nobody here may put another file in the place of /etc/hosts")
    before = with_hosts(way.hosts_file())
    use_topic(*before, python, "-c", SCRIPT, f"{BOOTSTRAP}:{port}", "by-hosts")
    assert way.hosts() == {BOOTSTRAP, BROKER}


def test_socks_leads_there_too(way, python, port, socks_port):
    words = "by-socks", f"socks5h://127.0.0.1:{socks_port}"
    use_topic(python, "-c", SCRIPT, f"{BOOTSTRAP}:{port}", *words)
