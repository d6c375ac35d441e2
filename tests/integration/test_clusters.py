"""Tunnels to EKS clusters by name: EKS is scripted, Systems Manager is the emulator."""

import asyncio

import pytest

from tests.aws.stub import Stub, error
from tests.integration.world import (
    PATIENCE,
    ask,
    configuration,
    connection,
    destination,
    emulator,
    port_of,
    running,
    tunnel,
)

HOST = "0a1b2c.gr7.eu-west-1.eks.amazonaws.com"
ASKED = "GET /clusters/prod"
MISSING = error("ResourceNotFoundException", "No cluster found for name: prod.", 404)


@pytest.fixture
def eks(monkeypatch):
    stub = Stub()
    found = {"name": "prod", "status": "ACTIVE", "endpoint": f"https://{HOST}"}
    stub.answer(ASKED, {"cluster": found})
    monkeypatch.setenv("AWS_ENDPOINT_URL_EKS", stub.url)
    yield stub
    stub.close()


async def test_sessions_lead_to_the_clusters_endpoint(eks):
    aliases = {HOST: "127.0.0.1"}
    async with emulator(host_aliases=aliases) as service, destination() as port:
        own = tunnel("k8s", cluster="prod", port=port, warm=2)
        text = configuration(service.endpoint_url, own)
        async with asyncio.timeout(PATIENCE), running(text) as daemon:
            async with connection(port_of(daemon, "k8s")) as (reader, writer):
                assert await ask(reader, writer, b"hello") == b"hello"
            (status,) = daemon.status()["tunnels"]
            assert status["destination"] == f"eks/prod:{port}"
            hosts = {s.request.properties["host"] for s in service.sessions}
            assert hosts == {HOST}


async def test_what_eks_refuses_is_in_log_and_status_with_its_cure(eks, events):
    eks.answer(ASKED, MISSING)
    async with emulator() as service:
        text = configuration(service.endpoint_url, tunnel("k8s", cluster="prod"))
        async with asyncio.timeout(PATIENCE), running(text, ready=False) as daemon:
            line = await events.wait_for("session.ended", tunnel="k8s")
            assert "DescribeCluster failed" in line["reason"]
            assert "check its name" in line["advice"]
            (status,) = daemon.status()["tunnels"]
            assert (status["reason"], status["lasting"]) == (line["reason"], True)
        assert not list(service.sessions)
