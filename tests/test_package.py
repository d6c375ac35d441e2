"""The names that ``import ssmtunneld`` offers, and modules that it does not load."""

import json
import subprocess
import sys

import pytest

import ssmtunneld


def test_the_package_offers_its_api_and_nothing_else():
    assert ssmtunneld.open_tunnel.__module__ == "ssmtunneld.api"
    assert ssmtunneld.LocalTunnel.__module__ == "ssmtunneld.api"
    assert {*ssmtunneld.__all__} == {"LocalTunnel", "__version__", "open_tunnel"}
    with pytest.raises(AttributeError, match="has no attribute 'tunnel_to_nowhere'"):
        _ = ssmtunneld.tunnel_to_nowhere


def test_importing_it_loads_nothing_heavy():
    program = (
        "import json, sys, ssmtunneld; "
        "heavy = ['boto3', 'aiohttp', 'pydantic', 'websockets', 'structlog']; "
        "print(json.dumps([name for name in heavy if name in sys.modules]))"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, check=True
    )
    assert json.loads(result.stdout) == []
