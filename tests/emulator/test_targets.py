"""The form of a target."""

import pytest

from ssmtunneld.emulator.targets import check_target


@pytest.mark.parametrize(
    "text",
    [
        "i-01234567",
        "i-0123456789abcdef0",
        "mi-0123456789abcdef0",
        "ecs:prod_0123456789abcdef_0123456789abcdef-527074092",
    ],
)
def test_an_id_is_returned(text):
    assert check_target(text) == text


@pytest.mark.parametrize("text", ["", "web-1", "i-0aaaa", "i-0123456789ABCDEF0"])
def test_anything_else_is_quoted_with_what_to_write(text):
    with pytest.raises(ValueError, match="8 or 17 hex digits") as caught:
        check_target(text)
    assert str(caught.value).startswith(f"{text!r} is not a target")
