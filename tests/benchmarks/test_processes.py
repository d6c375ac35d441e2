import os
import subprocess
import sys
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[2]

ABANDONS = """
import subprocess
import sys

from benchmarks import processes

child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
print(child.pid, flush=True)
processes.kill_children()
print(child.wait())
"""


def test_a_process_that_nobody_has_yet_is_killed_in_the_end():
    done = subprocess.run(
        [sys.executable, "-c", ABANDONS],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    pid, status = map(int, done.stdout.split())
    assert status == -9
    assert not psutil.pid_exists(pid)
