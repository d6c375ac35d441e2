"""Targets that are looked up: found, followed, and left when they are gone.

EC2, Auto Scaling and STS are moto's, Systems Manager is the emulator.
"""

import asyncio
from contextlib import asynccontextmanager

import pytest

from tests.aws.stub import Reply, Stub
from tests.integration.world import (
    PATIENCE,
    ask,
    configuration,
    connection,
    destination,
    echoes,
    emulator,
    port_of,
    running,
    tunnel,
)
from tests.support import moto


@pytest.fixture(scope="module")
def _running_cloud():
    with moto.running() as account:
        yield account


@pytest.fixture
def cloud(_running_cloud, monkeypatch):
    _running_cloud.reset()
    for name, value in _running_cloud.environment.items():
        monkeypatch.setenv(name, value)
    return _running_cloud


@asynccontextmanager
async def tunnel_to(target, *, ready=True, **settings):
    """Run a daemon with one tunnel to ``target``, an emulator and an echo."""
    async with emulator() as service, destination() as port:
        text = configuration(
            service.endpoint_url, tunnel("db", target=target, port=port, **settings)
        )
        async with running(text, ready=ready) as daemon:
            yield service, daemon


def targets(service):
    """Return what the emulator's living sessions lead to."""
    return {s.request.target for s in service.sessions if not s.over}


async def moved(events, service, *, old, new):
    """Return once sessions lead to ``new`` and none to ``old``."""
    await events.wait_for("session.started", target=new)
    while old in targets(service):
        ended = len(events.find("emulator.session_ended"))
        await events.wait_for("emulator.session_ended", count=ended + 1)


async def ends_in_a_reset(reader):
    """Say whether a connection is reset, as opposed to ended or kept."""
    try:
        async with asyncio.timeout(2 * PATIENCE):
            return await reader.read(1) != b"" and False
    except ConnectionResetError:
        return True


async def test_a_group_that_replaces_its_instance_is_followed(cloud, events):
    (first,) = await asyncio.to_thread(cloud.create_group, "bastions", 1)
    async with tunnel_to("asg:bastions") as (service, daemon):
        port = port_of(daemon, "db")
        async with connection(port) as (reader, writer):
            assert await ask(reader, writer, b"before") == b"before"
            assert targets(service) == {first}
            await asyncio.to_thread(cloud.replace_member, first)
            (second,) = await asyncio.to_thread(cloud.members, "bastions")
            assert second != first
            assert await ends_in_a_reset(reader)
        assert await echoes(port)
        await moved(events, service, old=first, new=second)
        assert events.find("session.retired", why="its target is gone")


async def test_what_runs_on_outside_its_group_keeps_its_connections(cloud, events):
    (first,) = await asyncio.to_thread(cloud.create_group, "bastions", 1)
    async with tunnel_to("asg:bastions") as (service, daemon):
        port = port_of(daemon, "db")
        async with connection(port) as (reader, writer):
            assert await ask(reader, writer, b"before") == b"before"
            await asyncio.to_thread(cloud.detach_member, "bastions", first)
            (second,) = await asyncio.to_thread(cloud.members, "bastions")
            await events.wait_for("session.started", target=second)
            assert await echoes(port)
            assert await ask(reader, writer, b"after") == b"after"
            assert targets(service) == {first, second}
        await moved(events, service, old=first, new=second)


async def test_a_target_that_is_not_there_yet_is_waited_for(cloud, events):
    await asyncio.to_thread(cloud.launch, Name="web-2")
    async with tunnel_to("name:web-1", ready=False) as (service, daemon):
        line = await events.wait_for("session.ended")
        assert line["reason"] == (
            "instance with tag Name=web-1: none found in eu-west-1 "
            f"(account {moto.ACCOUNT})"
        )
        assert line["advice"] == "did you mean name:web-2?"
        status = daemon.status()["tunnels"][0]
        assert status["state"] == "waiting"
        assert status["advice"] == "did you mean name:web-2?"
        wanted = await asyncio.to_thread(cloud.launch, Name="web-1")
        async with asyncio.timeout(2 * PATIENCE):
            await daemon.ready.wait()
        assert targets(service) == {wanted}


async def test_sessions_are_spread_over_what_there_is(cloud, events):
    wanted = {await asyncio.to_thread(cloud.launch, Role="bastion") for _ in range(2)}
    async with tunnel_to("tag:Role=bastion", target_policy="spread", warm=2) as (
        service,
        _,
    ):
        await events.wait_for("session.ready", count=2)
        assert targets(service) == wanted


async def test_a_target_without_an_agent_is_avoided(cloud, events):
    absent, there = sorted(
        [await asyncio.to_thread(cloud.launch, Role="bastion") for _ in range(2)],
        key=lambda i: (cloud.describe(i)["LaunchTime"], i),
    )
    # Systems Manager takes minutes to notice; StartSession knows at once.
    async with tunnel_to("tag:Role=bastion", ready=False) as (service, _):
        service.faults.apply(["start-error=TargetNotConnected*1"])
        await events.wait_for("session.ended", level="warning")
        await events.wait_for("session.ready")
        assert targets(service) == {there}
        (refused,) = events.find("session.ended")
        assert absent in refused["advice"]


class Ecs(Stub):
    """Describes only the tasks that it is asked for."""

    def reply(self, asked):
        reply = super().reply(asked)
        if asked.operation != "DescribeTasks":
            return reply
        names = {arn.rpartition("/")[2] for arn in asked.body["tasks"]}
        tasks = reply.body["tasks"]
        chosen = [t for t in tasks if t["taskArn"].rpartition("/")[2] in names]
        return Reply(body={"tasks": chosen})


def deploy(stub, **tasks):
    """Let ECS have a service whose tasks are in these states, by their ids."""
    arn = f"arn:aws:ecs:{moto.REGION}:{moto.ACCOUNT}:task/prod"
    running = [f"{arn}/{name}" for name, status in tasks.items() if status == "RUNNING"]
    stub.answer("ListTasks", {"taskArns": running})
    described = [
        {
            "taskArn": f"{arn}/{name}",
            "lastStatus": status,
            "containers": [
                {
                    "name": "app",
                    "runtimeId": f"{name}-1",
                    "lastStatus": "RUNNING",
                    "managedAgents": [
                        {"name": "ExecuteCommandAgent", "lastStatus": "RUNNING"}
                    ],
                }
            ],
        }
        for name, status in tasks.items()
    ]
    stub.answer("DescribeTasks", {"tasks": described})


async def test_a_deployment_of_a_service_is_followed(monkeypatch, events):
    old, new = "a" * 32, "b" * 32
    ids = [f"ecs:prod_{task}_{task}-1" for task in (old, new)]
    stub = Ecs()
    monkeypatch.setenv("AWS_ENDPOINT_URL_ECS", stub.url)
    deploy(stub, **{old: "RUNNING"})
    try:
        async with tunnel_to("ecs:prod/api/app") as (service, daemon):
            port = port_of(daemon, "db")
            async with connection(port) as (reader, writer):
                assert await ask(reader, writer, b"before") == b"before"
                assert targets(service) == {ids[0]}
                deploy(stub, **{old: "DEACTIVATING", new: "RUNNING"})
                # What is only being stopped may finish what it does.
                await events.wait_for("session.started", target=ids[1])
                assert await ask(reader, writer, b"during") == b"during"
                deploy(stub, **{old: "STOPPED", new: "RUNNING"})
                assert await ends_in_a_reset(reader)
            assert await echoes(port)
            assert targets(service) == {ids[1]}
    finally:
        stub.close()
