"""Imports that the daemon leaves out, and other programs keep."""

import os
import subprocess
import sys

import pytest

from ssmtunneld.base.lean_imports import hidden

_AS_A_LIBRARY = """
import sys
import ssmtunneld.base.log, structlog
print("rich" in sys.modules)
"""
_AS_THE_PROGRAM = """
import sys
import ssmtunneld.__main__
import ssmtunneld.observe.logs, ssmtunneld.daemon.process, ssmtunneld.aws.client
print(
    {"rich", "pygments", "attr", "aiohttp", "prometheus_client", "difflib"}
    .union({"python_socks", "ssmtunneld.sessions.bastion"})
    .union({"botocore.docs.client", "botocore.docs.bcdoc.docstringparser"})
    .intersection(sys.modules)
)
import rich
"""


def run(code):
    output = subprocess.check_output([sys.executable, "-c", code], env={**os.environ})
    return output.decode().strip()


def test_a_daemon_imports_nothing_that_it_does_not_use():
    assert run(_AS_THE_PROGRAM) == "set()"


def test_other_programs_keep_what_they_have():
    assert run(_AS_A_LIBRARY) == "True"


@pytest.mark.parametrize("first", ["", "import wave\n"])
def test_what_is_hidden_can_be_imported_afterwards(first):
    code = f"""
import sys
import ssmtunneld.__main__
from ssmtunneld.base.lean_imports import hidden
{first}with hidden("wave"):
    try:
        import wave
        print("seen")
    except ImportError:
        print("hidden")
import wave
"""
    assert run(code) == ("seen" if first else "hidden")


def test_nothing_is_hidden_in_somebody_elses_program():
    code = """
from ssmtunneld.base.lean_imports import hidden
with hidden("wave"):
    import wave
print(wave.__name__)
"""
    assert run(code) == "wave"


def test_an_error_in_the_block_ends_the_hiding():
    with pytest.raises(ZeroDivisionError), hidden("wave"):
        1 / 0  # noqa: B018 - it is to fail
    assert sys.modules.get("wave", "not imported") is not None


def test_what_is_left_out_has_only_what_is_put_there():
    code = """
import sys
import ssmtunneld.__main__
from ssmtunneld.base.lean_imports import leave_out
leave_out("wsgiref.handlers", {"read_environ": dict})
from wsgiref import handlers
print(sorted(name for name in vars(handlers) if name[0] != "_"))
"""
    assert run(code) == "['read_environ']"


@pytest.mark.parametrize(
    "first", ["import ssmtunneld.__main__, wsgiref.handlers", "pass"]
)
def test_what_is_there_or_somebody_else_s_is_not_left_out(first):
    code = f"""
{first}
from ssmtunneld.base.lean_imports import leave_out
leave_out("wsgiref.handlers", {{}})
import wsgiref.handlers
print(wsgiref.handlers.CGIHandler.__name__)
"""
    assert run(code) == "CGIHandler"


def test_pydantic_looks_for_no_plugins():
    code = """
import ssmtunneld.__main__
from pydantic.plugin._loader import get_plugins
from ssmtunneld.config import DaemonSettings
print(get_plugins(), DaemonSettings().start_burst)
"""
    assert run(code) == "() 4"


@pytest.mark.parametrize(
    ("first", "found"),
    [("ssmtunneld.__main__", "True True"), ("sys", "False False")],
)
def test_imports_are_passed_over_by_the_collector(first, found):
    code = f"""
import gc, {first}
from ssmtunneld.base.lean_imports import uncollected
before = gc.get_freeze_count()  # some are from the start, from 3.12 on
with uncollected():
    off = not gc.isenabled()
assert gc.isenabled()
print(off, gc.get_freeze_count() > before)
"""
    assert run(code) == found


def test_whoever_collects_nothing_goes_on_with_that():
    code = """
import gc, ssmtunneld.__main__
from ssmtunneld.base.lean_imports import uncollected
gc.disable()
with uncollected():
    pass
print(gc.isenabled())
"""
    assert run(code) == "False"
