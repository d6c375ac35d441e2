import getpass
import os
import pwd

import pytest

from ssmtunneld.config.users import EVERYBODY, parse_user

ROOT = pwd.getpwuid(0).pw_name


@pytest.mark.parametrize(
    ("written", "user"),
    [(ROOT, 0), (0, 0), (1000, 1000), (2**32 - 2, 2**32 - 2), ("*", EVERYBODY)],
)
def test_a_user_is_a_name_an_id_or_everybody(written, user):
    assert parse_user(written) == user


def test_our_own_name_is_our_own_id():
    assert parse_user(getpass.getuser()) == os.getuid()


@pytest.mark.parametrize("written", [-1, 2**32 - 1])
def test_a_number_that_no_user_can_have_is_refused(written):
    with pytest.raises(ValueError, match="is not a user id"):
        parse_user(written)


@pytest.mark.parametrize("written", [True, 1.5, None, "", "a\0b", ["root"]])
def test_what_is_neither_is_refused_with_how_to_write_it(written):
    with pytest.raises(ValueError, match='write a name, a user id, or "\\*"'):
        parse_user(written)


def test_a_name_that_nobody_has_is_refused_with_the_nearest(monkeypatch):
    monkeypatch.setattr(pwd, "getpwall", lambda: [pwd.getpwuid(0)])
    with pytest.raises(ValueError, match=rf"\(did you mean {ROOT}\?\)$"):
        parse_user(f"{ROOT}x")
    with pytest.raises(ValueError, match=r"of this machine$"):
        parse_user("zzzzzzzzz")


def test_an_id_in_quotes_is_refused_with_how_to_write_it():
    with pytest.raises(ValueError, match="write a user id without quotes"):
        parse_user("4000000000")
