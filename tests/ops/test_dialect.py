"""What daemon and commands agree on can be imported by a command in a hurry."""

import subprocess
import sys

from ssmtunneld.ops import dialect


def test_the_protocol_is_a_number_that_fits_into_a_header():
    assert dialect.PROTOCOL >= 1
    assert dialect.PROTOCOL_HEADER.isascii()
    assert dialect.PROGRAM_HEADER != dialect.PROTOCOL_HEADER


def test_it_brings_nothing_along():
    program = "import sys, ssmtunneld.ops.dialect; print('asyncio' in sys.modules)"
    command = [sys.executable, "-c", program]
    result = subprocess.run(command, capture_output=True, check=True)
    assert result.stdout.strip() == b"False"
