"""A daemon process with included files, disabled tunnels and groups."""

import asyncio
import json
import signal

import pytest

from ssmtunneld.testing import EmulatorThread
from tests.integration.processes import (
    await_line,
    await_port,
    launch,
    lines_of,
    running,
)
from tests.integration.world import (
    ask,
    configuration,
    connection,
    destination,
    echoes,
    table,
    tunnel,
)

JSON = ("--log-format", "json")


@pytest.fixture
def service():
    """An emulator on a loop of its own."""
    with EmulatorThread() as emulator:
        yield emulator


async def in_thread(function, *arguments, **facts):
    return await asyncio.to_thread(function, *arguments, **facts)


class Team:
    """A main file, and a folder of files that it includes."""

    def __init__(self, folder, endpoint_url, **daemon):
        self.main = folder / "config.toml"
        self.folder = folder / "conf.d"
        self.folder.mkdir()
        own = configuration(endpoint_url, **daemon)
        self.text = f'include = ["conf.d/*.toml"]\n{own}'

    def write(self, name, *tables):
        (self.folder / f"{name}.toml").write_text("\n".join(tables))


async def command(path, *arguments):
    """Return the exit code of a command about the daemon, and what it wrote."""
    name, *others = arguments

    def run():
        program = launch(name, "-c", path, *others)
        code = program.process.wait(60)
        program.kill()  # all that it wrote has been read then
        return code, program.log()

    return await in_thread(run)


async def status(path, *arguments):
    code, text = await command(path, "status", "--json", *arguments)
    assert code == 0, text
    document = json.loads(text)
    return {each["name"]: each["state"] for each in document["tunnels"]}


async def test_included_files_come_change_and_go_with_reloads(service, tmp_path):
    async with destination() as port:
        team = Team(tmp_path, service.endpoint_url)
        team.write("orders", tunnel("db", port=port), tunnel("web", port=port))
        with running(team.main, team.text, *JSON, **service.environment) as program:
            await in_thread(await_line, program, "daemon.ready")
            db, web = await_port(program, "db"), await_port(program, "web")
            async with connection(db) as talk, connection(web) as leaving:
                assert await ask(*talk, b"hello") == b"hello"
                assert await ask(*leaving, b"hello") == b"hello"

                # A mistake in any file refuses all of it, with its place.
                team.write("new", tunnel("new", port=port), tunnel("db", port=port))
                code, text = await command(team.main, "reload")
                assert code == 2
                assert (
                    f"{team.folder}/orders.toml:1: tunnels.db: is a name that "
                    f"{team.folder}/new.toml:6 has given: choose another" in text
                )
                assert await ask(*talk, b"still") == b"still"

                # A file more, and a tunnel that is switched off.
                team.write("new", tunnel("new", port=port))
                team.write(
                    "orders",
                    tunnel("db", port=port),
                    tunnel("web", port=port, enabled=False),
                )
                code, text = await command(team.main, "reload")
                assert (code, text.splitlines()) == (
                    0,
                    ["added: new", "changed: web", "unchanged: 1 tunnel"],
                )
                assert await echoes(await_port(program, "new"))
                assert await status(team.main) == {
                    "new": "ready",
                    "db": "ready",
                    "web": "disabled",
                }
                with pytest.raises(ConnectionRefusedError):
                    await echoes(web)
                assert await ask(*talk, b"goes on") == b"goes on"
                assert await ask(*leaving, b"finishes") == b"finishes"
                code, text = await command(team.main, "resume", "web")
                assert (code, "web is disabled (enabled = false)" in text) == (2, True)

                # On again: a listener and sessions as at a start.
                team.write("orders", tunnel("db", port=port), tunnel("web", port=port))
                assert (await command(team.main, "reload"))[0] == 0
                line = await in_thread(
                    await_line, program, "listener.bound", tunnel="web", count=2
                )
                assert await echoes(int(line["address"].rpartition(":")[2]))
                assert await ask(*talk, b"and on") == b"and on"
            (team.folder / "new.toml").unlink()
            code, text = await command(team.main, "reload")
            assert (code, text.splitlines()[0]) == (0, "removed: new")
            assert await in_thread(program.stop) == 0
    assert {s["status"] for s in service.sessions()} == {"Terminated"}


async def test_a_watched_folder_is_taken_over_without_being_asked(service, tmp_path):
    async with destination() as port:
        team = Team(tmp_path, service.endpoint_url, watch_config=True)
        team.write("orders", tunnel("db", port=port))
        with running(team.main, team.text, *JSON, **service.environment) as program:
            await in_thread(await_line, program, "daemon.ready")
            team.write("new", "this is no TOML")
            refused = await in_thread(await_line, program, "reload.refused")
            assert f"{team.folder}/new.toml:1:6: is not TOML" in refused["reason"]
            team.write("new", tunnel("new", port=port))
            applied = await in_thread(await_line, program, "reload.applied")
            assert applied["added"] == ["new"]
            assert await echoes(await_port(program, "new"))
            (team.folder / "new.toml").unlink()
            applied = await in_thread(await_line, program, "reload.applied", count=2)
            assert applied["removed"] == ["new"]
            assert await in_thread(program.stop) == 0


async def test_a_group_is_run_waited_for_paused_and_kept_by_reloads(service, tmp_path):
    async with destination() as port:
        team = Team(tmp_path, service.endpoint_url)
        orders = table("defaults", groups=["orders"])
        team.write("orders", orders, tunnel("db", port=port), tunnel("api", port=port))
        team.write("other", tunnel("other", port=port, groups=["other"]))
        options = ("--group", "orders", *JSON)
        with running(team.main, team.text, *options, **service.environment) as program:
            await in_thread(await_line, program, "daemon.ready")
            assert lines_of(program, "daemon.started")[0]["tunnels"] == 2
            assert lines_of(program, "listener.bound", tunnel="other") == []
            group = ("--group", "orders")
            assert (await command(team.main, "wait", *group))[0] == 0
            ready = {"db": "ready", "api": "ready"}
            assert await status(team.main, *group) == ready
            code, text = await command(team.main, "pause", "--group", "other")
            assert code == 2
            assert "no tunnel is in group other; the groups are: orders" in text
            assert await command(team.main, "pause", *group) == (
                0,
                "db: paused\napi: paused\n",
            )
            assert await status(team.main) == {"db": "paused", "api": "paused"}
            assert (await command(team.main, "resume", *group))[0] == 0
            assert (await command(team.main, "wait", *group))[0] == 0
            show = ("sh", "-c", "env | grep -o '^SSMTUNNELD_[A-Z]*_PORT' | sort")
            code, text = await command(team.main, "exec", *group, "--", *show)
            assert (code, text) == (0, "SSMTUNNELD_API_PORT\nSSMTUNNELD_DB_PORT\n")

            # A tunnel that joins the group comes, one that leaves it goes.
            team.write("other", tunnel("other", port=port, groups=["orders"]))
            team.write(
                "orders",
                tunnel("db", port=port, groups=["orders"]),
                tunnel("api", port=port),
            )
            program.process.send_signal(signal.SIGHUP)
            applied = await in_thread(await_line, program, "reload.applied")
            assert (applied["added"], applied["removed"]) == (["other"], ["api"])
            assert await echoes(await_port(program, "other"))

            # Without any tunnel in it, the group is a mistake, and all stays.
            for name in ("orders", "other"):
                team.write(name, tunnel(name, port=port, groups=["x"]))
            program.process.send_signal(signal.SIGHUP)
            refused = await in_thread(await_line, program, "reload.refused")
            assert (
                "no tunnel is in group orders; the groups are: x" in refused["reason"]
            )
            assert [*(await status(team.main))] == ["db", "other"]
            assert await in_thread(program.stop) == 0
    assert {s["status"] for s in service.sessions()} == {"Terminated"}
