"""Records are to their users what frozen dataclasses with slots are."""

import copy
import pickle
from dataclasses import (
    FrozenInstanceError,
    asdict,
    dataclass,
    field,
    fields,
    is_dataclass,
    replace,
)

import pytest

from ssmtunneld.base.record import Record


class Point(Record):
    """Two fields, one of them with a default."""

    x: int
    y: int = 0

    @property
    def size(self) -> int:
        """A property, as any class can have."""
        return self.x + self.y


class Place(Record):
    """The same fields as those of a point."""

    x: int
    y: int = 0


class Nothing(Record):
    """No fields."""


class Note(Record):
    """All that ``field()`` can say."""

    text: str = field(repr=False)
    words: list[str] = field(default_factory=list)
    number: int = field(default=7, compare=False)


@dataclass(frozen=True, slots=True)
class Usual:
    """What the records above are compared with."""

    x: int
    y: int = 0


def test_fields_are_given_by_place_by_name_or_not_at_all():
    assert (Point(1, 2).x, Point(1, 2).y) == (1, 2)
    assert Point(y=2, x=1) == Point(1, 2)
    assert Point(1).y == 0
    assert Point(1, 2).size == 3
    for wrong in ((), (1, 2, 3)):
        with pytest.raises(TypeError):
            Point(*wrong)
        with pytest.raises(TypeError):
            Usual(*wrong)
    with pytest.raises(TypeError, match="z"):
        Point(1, z=2)


def test_each_instance_has_a_default_of_its_own():
    one, other = Note("a"), Note("b")
    one.words.append("word")
    assert (one.words, other.words) == (["word"], [])
    given = ["word"]
    assert Note("a", given).words is given
    assert one.number == 7


def test_nothing_of_it_can_be_changed():
    point = Point(1)
    with pytest.raises(FrozenInstanceError, match="cannot assign to field 'x'"):
        point.x = 2
    with pytest.raises(FrozenInstanceError, match="cannot delete field 'x'"):
        del point.x
    with pytest.raises(FrozenInstanceError):
        point.z = 2
    assert not hasattr(point, "__dict__")


def test_equal_are_those_of_one_class_with_equal_values():
    assert Point(1, 2) == Point(1, 2)
    assert Point(1, 2) != Point(2, 1)
    assert Point(1, 2) != Place(1, 2)
    assert Point(1, 2) != (1, 2)
    assert Nothing() == Nothing()
    assert Note("a", number=1) == Note("a", number=2)
    assert Note("a") != Note("b")


def test_equal_ones_are_one_key():
    assert {Point(1, 2), Point(1, 2), Point(2, 1)} == {Point(1, 2), Point(2, 1)}
    assert hash(Nothing()) == hash(Nothing())
    with pytest.raises(TypeError):
        hash(Note("a"))  # it has a list


def test_it_is_written_as_it_is_made():
    assert repr(Point(1, 2)) == repr(Usual(1, 2)).replace("Usual", "Point")
    assert repr(Note("a")) == "Note(words=[], number=7)"
    assert repr(Nothing()) == "Nothing()"


def test_patterns_take_its_fields_by_their_places():
    match Point(1, 2):
        case Point(x, 2):
            assert x == 1
        case _:
            pytest.fail("a point is no point")


def test_dataclasses_takes_it_for_one_of_its_own():
    assert is_dataclass(Point)
    assert [f.name for f in fields(Point)] == [f.name for f in fields(Usual)]
    assert [f.type for f in fields(Point)] == [f.type for f in fields(Usual)]
    assert [f.default for f in fields(Point)] == [f.default for f in fields(Usual)]
    assert replace(Point(1, 2), y=3) == Point(1, 3)
    assert asdict(Note("a", ["b"])) == {"text": "a", "words": ["b"], "number": 7}


def test_copies_are_equal():
    note = Note("a", ["b"], 8)
    assert copy.copy(note) == note
    copied = copy.deepcopy(note)
    assert (copied, copied.number) == (note, 8)
    assert copied.words is not note.words
    assert pickle.loads(pickle.dumps(note)) == note


def test_only_what_is_made_is_compiled():
    class Late(Record):
        x: int

    assert "__init__" not in vars(Late)
    assert Late(1).x == 1
    assert "__init__" in vars(Late)
    assert Late(2).x == 2
