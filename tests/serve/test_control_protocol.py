"""Constants shared by daemon and commands, cheap for a command to import."""

import subprocess
import sys

from ssmtunneld.serve import control_protocol


def test_the_protocol_is_a_number_that_fits_into_a_header():
    assert control_protocol.PROTOCOL >= 1
    assert control_protocol.PROTOCOL_HEADER.isascii()
    assert control_protocol.PROGRAM_HEADER != control_protocol.PROTOCOL_HEADER


def test_it_brings_nothing_along():
    program = (
        "import sys, ssmtunneld.serve.control_protocol; print('asyncio' in sys.modules)"
    )
    command = [sys.executable, "-c", program]
    result = subprocess.run(command, capture_output=True, check=True)
    assert result.stdout.strip() == b"False"
