"""redis-py, which can be told where each name of a Redis Cluster leads."""

import json

from tests.interop.conftest import tunnel_table
from tests.interop.names import run_way
from tests.interop.programs import (
    environment,
    run,
)
from tests.support.ports import free_port

SCRIPT = """
import json, sys
from redis.cluster import RedisCluster
tunnels = json.loads(sys.argv[1])
host, port = next(iter(tunnels.values()))
client = RedisCluster(
    host=host, port=port, address_remap=lambda address: tuple(tunnels[address[0]])
)
for key in "abc":
    client.set(key, f"value of {key}")
print([client.get(key).decode() for key in "abc"])
print(sorted(node.port for node in client.get_primaries()))
"""


def test_names_lead_to_tunnels_by_a_list_of_its_own(client, redis_cluster, tmp_path):
    python = client("redis-py") / "bin" / "python"
    tunnels = {name: ("127.0.0.1", free_port()) for name in redis_cluster.addresses}
    text = "".join(
        tunnel_table(f"node-{n}", local, redis_cluster.port, host=name)
        for n, (name, (_, local)) in enumerate(tunnels.items())
    )
    with run_way(text, redis_cluster.addresses, tmp_path) as way:
        said = run(python, "-c", SCRIPT, json.dumps(tunnels), env=environment())
        assert said.splitlines() == [
            str([f"value of {key}" for key in "abc"]),
            str(sorted(local for _, local in tunnels.values())),
        ]
        assert way.hosts() == set(redis_cluster.addresses)
