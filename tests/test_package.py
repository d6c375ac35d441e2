"""The names that ``import ssmtunneld`` offers, and modules that it does not load."""

import inspect
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import ssmtunneld
from ssmtunneld import errors


def test_the_package_offers_its_api_and_nothing_else():
    assert ssmtunneld.open_tunnel.__module__ == "ssmtunneld.api"
    assert ssmtunneld.LocalTunnel.__module__ == "ssmtunneld.api"
    own = {"LocalTunnel", "TunnelBlock", "__version__", "open_tunnel"}
    assert own <= {*ssmtunneld.__all__} <= {*dir(ssmtunneld)}
    for name in {*ssmtunneld.__all__} - own:
        assert getattr(ssmtunneld, name) is getattr(errors, name)
    with pytest.raises(AttributeError, match="has no attribute 'tunnel_to_nowhere'"):
        _ = ssmtunneld.tunnel_to_nowhere


PAGE = (Path(__file__).parents[1] / "docs/python.md").read_text(encoding="utf-8")


def test_the_page_has_every_error_and_names_nothing_else():
    named = {*re.findall(r"`(\w+)`", PAGE)}
    offered = {name for name in ssmtunneld.__all__ if hasattr(errors, name)}
    assert offered <= named
    listed = {
        *re.findall(r"^\| `(\w+)` \|.*\|", PAGE.split("## Errors")[1], re.MULTILINE)
    }
    assert listed <= offered


def test_the_examples_of_the_page_use_what_there_is():
    examples = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(examples) == 4
    for example in examples:
        compile(example, "docs/python.md", "exec")
        for name in re.findall(r"ssmtunneld\.(\w+)", example):
            assert name in ssmtunneld.__all__


def test_the_page_has_every_argument():
    table = PAGE.split("## Arguments")[1].split("## Errors")[0]
    told = {*re.findall(r"`(\w+)`", "".join(re.findall(r"(?m)^\|([^|]*)\|", table)))}
    assert told == {*inspect.signature(ssmtunneld.open_tunnel).parameters}


def test_importing_it_loads_nothing_heavy():
    program = (
        "import json, sys, ssmtunneld; ssmtunneld.TunnelError; "
        "heavy = ['boto3', 'aiohttp', 'pydantic', 'websockets', 'structlog']; "
        "print(json.dumps([name for name in heavy if name in sys.modules]))"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, check=True
    )
    assert json.loads(result.stdout) == []
