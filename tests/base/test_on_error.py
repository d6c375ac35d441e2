"""A block that does not reach its end is undone, whatever ended it."""

import asyncio

import pytest

from ssmtunneld.base.on_error import on_error


@pytest.mark.parametrize("error", [OSError, asyncio.CancelledError, KeyboardInterrupt])
def test_what_a_block_raises_undoes_it_and_goes_on(error):
    undone = []
    raised = error()
    with pytest.raises(error) as caught, on_error(undone.append, "it"):
        raise raised
    assert undone == ["it"]
    assert caught.value is raised


def test_a_block_that_ends_is_left_as_it_is():
    undone = []
    with on_error(undone.append, "it"):
        pass
    assert undone == []


def test_a_return_is_an_orderly_end():
    undone = []

    def answer():
        with on_error(undone.append, "it"):
            return 42

    assert answer() == 42
    assert undone == []


def test_arguments_by_name_are_passed_on():
    undone = {}
    with pytest.raises(OSError, match="gone"), on_error(undone.update, name="it"):
        raise OSError("gone")
    assert undone == {"name": "it"}


def test_each_of_several_is_undone_from_the_last_to_the_first():
    undone = []
    with (
        pytest.raises(OSError, match="gone"),
        on_error(undone.append, "first"),
        on_error(undone.append, "last"),
    ):
        raise OSError("gone")
    assert undone == ["last", "first"]
