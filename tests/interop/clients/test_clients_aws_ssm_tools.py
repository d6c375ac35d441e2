"""aws-ssm-tools: instances are found by the names that the inventory tells.

Its programs then run the AWS CLI with the official plugin, which
``test_interop_plugin.py`` tries; EC2 is moto's.
"""

import json

import pytest

from ssmtunneld.emulator.settings import EmulatorSettings, Node
from ssmtunneld.testing import EmulatorThread
from tests.interop.programs import run
from tests.support import moto

SCRIPT = """
import argparse, json, sys
from ssm_tools.resolver import InstanceResolver
resolver = InstanceResolver(argparse.Namespace(profile=None, region="eu-west-1"))
found = [resolver.resolve_instance(name) for name in sys.argv[1:]]
print(json.dumps([one and one[0] for one in found]))
"""
BOX = "mi-0123456789abcdef0"


@pytest.fixture
def account():
    with moto.running() as cloud:
        yield cloud


def test_names_and_addresses_lead_to_instances(client, environ, account):
    python = client("aws-ssm-tools") / "bin" / "python"
    instance = account.launch(Name="bastion")
    nodes = {
        instance: Node(name="ip-10-0-0-7", address="10.0.0.7"),
        BOX: Node(name="box.example.com", address="192.0.2.9"),
    }
    with EmulatorThread(EmulatorSettings(nodes=nodes)) as emulator:
        environ = {
            **environ,
            **emulator.environment,
            **{k: v for k, v in account.environment.items() if "EC2" in k},
            "AWS_ENDPOINT_URL_EC2": account.url,
        }
        asked = ("bastion", instance, "box.example.com", "192.0.2.9", BOX)
        said = run(python, "-c", SCRIPT, *asked, env=environ)
    assert json.loads(said.splitlines()[-1]) == [instance, instance, BOX, BOX, BOX]
