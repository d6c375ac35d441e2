"""What sessions of a process share, and what only some of them import."""

import os
import subprocess
import sys

import pytest

from ssmtunneld.aws.api.port import Identity
from ssmtunneld.base.log import get_log
from ssmtunneld.config import TunnelSettings
from ssmtunneld.daemon.session_context import (
    SessionContext,
    session_dependencies,
    settings_of,
)
from ssmtunneld.errors import AccessMissing
from ssmtunneld.sessions.node_access import AccessTargetSelector
from ssmtunneld.sessions.searching import SearchingTargetSelector
from ssmtunneld.sessions.targeting import FixedTargetSelector
from tests.integration import world

TARGET = "i-0123456789abcdef0"


def settings(**changes):
    given = {"name": "x", "listen": "5432", "target": TARGET, "port": 5432}
    return TunnelSettings.model_validate(given | changes)


@pytest.fixture(autouse=True)
def _aws(monkeypatch, tmp_path):
    world.use_loopback_aws(monkeypatch, tmp_path)


@pytest.fixture
async def context():
    context = SessionContext(start_rate=100, start_burst=10)
    yield context
    await context.controls.close()


async def test_an_id_is_not_searched_for_and_a_name_is(context):
    log = get_log()
    assert isinstance(context.selector(settings(), log), FixedTargetSelector)
    found = context.selector(settings(target="name:web"), log)
    assert isinstance(found, SearchingTargetSelector)


async def test_searches_of_one_identity_go_one_after_another(context):
    one = Identity(region="eu-west-1")
    other = Identity(region="us-east-1")
    assert context.resolver(one) is context.resolver(one)
    assert context.resolver(one) is not context.resolver(other)


async def test_access_that_takes_an_approval_signs_for_the_sessions(context):
    plain, asked = settings(), settings(access="request")
    assert context.access(plain) is None
    access = context.access(asked)
    assert context.access(asked) is access
    control = context.controls.get(Identity.of(plain))
    assert session_dependencies(plain, context, get_log()).control is control
    assert session_dependencies(asked, context, get_log()).control is access.control


async def test_sessions_go_to_the_node_that_was_approved_and_to_no_other(context):
    asked = settings(access="request", target="name:web")
    found = context.selector(asked, get_log())
    assert isinstance(found, AccessTargetSelector)
    with pytest.raises(AccessMissing):
        await found.choose()


async def test_each_tunnel_of_a_file_has_an_access_of_its_own(context):
    one = settings(access="request")
    assert context.access(one) is not context.access(
        settings(access="request", name="y")
    )
    unnamed = SessionContext(start_rate=1, start_burst=1, named=False)
    assert unnamed.access(one) is unnamed.access(settings(access="request", name="y"))
    await unnamed.controls.close()


def test_a_session_is_told_what_its_tunnel_says():
    found = settings_of(settings(keep_alive="1m", stream_buffer="256KiB"))
    assert found.keep_alive == 60.0
    assert found.buffers.stream == 256 << 10
    assert settings_of(settings(keep_alive=False)).keep_alive is None


def test_what_few_tunnels_need_is_imported_by_the_first():
    code = """
import sys
import ssmtunneld.__main__, ssmtunneld.ssh.single_session, ssmtunneld.ssh.settings
print(sorted(name for name in sys.modules if name.startswith((
    "ssmtunneld.aws.access_requests", "ssmtunneld.aws.bastions", "botocore",
    "ssmtunneld.aws.clusters", "ssmtunneld.aws.instance_connect",
    "ssmtunneld.aws.targets.", "ssmtunneld.daemon.backend", "ssmtunneld.daemon.bast",
    "ssmtunneld.daemon.context", "ssmtunneld.daemon.requested_access",
    "ssmtunneld.listener.proxy", "ssmtunneld.observe.", "ssmtunneld.sessions.bastion",
    "ssmtunneld.sessions.node_access", "ssmtunneld.sessions.pool",
    "ssmtunneld.sessions.searching", "python_socks", "pydantic.plugin._loader.",
))))
"""
    output = subprocess.check_output([sys.executable, "-c", code], env={**os.environ})
    assert output == b"[]\n"


def test_what_a_session_imports_has_no_classes_that_take_long_to_make():
    code = """
import sys
import ssmtunneld.__main__, ssmtunneld.ssh.single_session, ssmtunneld.ssh.settings
import ssmtunneld.aws.client, ssmtunneld.cli.commands.proxy, ssmtunneld.observe.logs
for name, module in list(sys.modules.items()):
    if name.startswith("ssmtunneld."):
        for key, value in vars(module).items():
            how = getattr(value, "__dataclass_params__", None)
            if how is not None and how.frozen and value.__module__ == name:
                print(name, key)
"""
    output = subprocess.check_output([sys.executable, "-c", code], env={**os.environ})
    assert output == b""
