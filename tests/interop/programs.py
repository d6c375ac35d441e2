"""Real programs on free loopback ports: started, listened to, and ended for certain."""

import contextlib
import os
import re
import signal
import subprocess
import threading
from collections import deque

START_TIMEOUT = 60
STOP_TIMEOUT = 30
_KEPT_LINES = 5000


def environment(**extra):
    """Return the environment for a program: ours, without coverage's hooks.

    Measuring the daemon here would slow its data path several times and add nothing:
    its coverage comes from the unit and integration tests.
    """
    kept = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("COVERAGE_", "COV_CORE_", "AWS_", "SSMTUNNELD_"))
    }
    return {**kept, "LC_ALL": "C", "PYTHONUNBUFFERED": "1", **extra}


def aws_environment(url, **extra):
    """Return the environment for a program whose AWS is the emulator at ``url``."""
    return environment(
        AWS_ENDPOINT_URL_SSM=url,
        AWS_ENDPOINT_URL_EC2_INSTANCE_CONNECT=url,
        AWS_ACCESS_KEY_ID="AKIAEMULATOR00000000",
        AWS_SECRET_ACCESS_KEY="emulator-secret",
        AWS_REGION="eu-west-1",
        AWS_CONFIG_FILE=os.devnull,
        AWS_SHARED_CREDENTIALS_FILE=os.devnull,
        AWS_EC2_METADATA_DISABLED="true",
        **extra,
    )


class Program:
    """A subprocess in a process group of its own, whose lines can be waited for."""

    def __init__(self, *argv, env=None, user=None, cwd=None):
        self.argv = [str(argument) for argument in argv]
        self._lines = deque(maxlen=_KEPT_LINES)
        self._changed = threading.Condition()
        self._ended = False
        as_user = {"user": user, "group": user, "extra_groups": []} if user else {}
        self.process = subprocess.Popen(
            self.argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment() if env is None else env,
            cwd=cwd,
            text=True,
            errors="replace",
            start_new_session=True,
            **as_user,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self):
        return self.process.pid

    def log(self):
        """Return what it has printed, stdout and stderr together."""
        with self._changed:
            return "".join(self._lines)

    def wait_for(self, pattern, timeout=START_TIMEOUT):
        """Return the match of ``pattern`` in its output, as soon as there is one."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._ended or re.search(pattern, "".join(self._lines)),
                timeout,
            )
        found = re.search(pattern, self.log())
        assert found, f"{self.argv[0]} never printed {pattern!r}:\n{self.log()}"
        return found

    def stop(self, number=signal.SIGTERM, timeout=STOP_TIMEOUT):
        """Ask it to end and return its exit status; idempotent."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(timeout)
        finally:
            self.kill()

    def wait_for_end(self, timeout=START_TIMEOUT):
        """Wait until it and all that it started have ended; return its exit status."""
        with self._changed:
            ended = self._changed.wait_for(lambda: self._ended, timeout)
        assert ended, f"{self.argv} goes on:\n{self.log()}"
        return self.process.wait(timeout)

    def kill(self):
        """End it and all that it started, at once."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(STOP_TIMEOUT)
        self._reader.join(STOP_TIMEOUT)

    def _read(self):
        # Closed here, and not by `kill`: a program that left the group may hold the
        # other end for longer than anybody waits, and the file ends with it.
        with self.process.stdout as lines:
            for line in lines:
                with self._changed:
                    self._lines.append(line)
                    self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()


def run(*argv, timeout=120, data=None, env=None, text=True):
    """Run ``argv`` to its end and return its output; fail with all that it said."""
    result = subprocess.run(
        [str(argument) for argument in argv],
        input=data,
        stdin=subprocess.DEVNULL if data is None else None,
        capture_output=True,
        text=text,
        timeout=timeout,
        env=environment() if env is None else env,
        check=False,
    )
    assert result.returncode == 0, (
        f"{argv} ended with {result.returncode}:\n{result.stdout}\n{result.stderr}"
    )
    return result.stdout
