"""Exit codes and messages of a command that fails."""

from ssmtunneld.cli import exit_codes
from ssmtunneld.cli.exit_codes import CommandError


def test_the_exit_codes_are_the_documented_ones():
    codes = (
        exit_codes.EXIT_FAILED,
        exit_codes.EXIT_USAGE,
        exit_codes.EXIT_NOT_RUNNING,
        exit_codes.EXIT_REFUSED,
        exit_codes.EXIT_INTERRUPTED,
    )
    assert codes == (1, 2, 3, 4, 130)


def test_an_error_carries_what_to_do_its_code_and_its_lines():
    plain = CommandError("no")
    assert (str(plain), plain.advice, plain.code, plain.problems) == ("no", "", 1, ())
    full = CommandError("no", "do it", code=3, problems=["a", "b"])
    assert (full.advice, full.code, full.problems) == ("do it", 3, ("a", "b"))
