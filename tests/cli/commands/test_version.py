"""``ssmtunneld version``."""

from ssmtunneld.version import __version__
from tests.cli.household import call


def test_it_prints_what_the_option_prints(capsys):
    code, out, err = call(capsys, "version")
    assert (code, out, err) == (0, f"ssmtunneld, version {__version__}\n", "")
    assert call(capsys, "--version")[1] == out
