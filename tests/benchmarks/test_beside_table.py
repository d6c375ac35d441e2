import pytest

from benchmarks.beside.contest import Conditions, Contender
from benchmarks.beside.steps import ROWS, STEPS
from benchmarks.beside.table import cell, number, render


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.0123456, "0.0123"),
        (0.9321, "0.932"),
        (1.0, "1.00"),
        (44.26, "44.3"),
        (620.4, "620"),
        (3232.1, "3232"),
    ],
)
def test_numbers_have_three_digits_that_count(value, text):
    assert number(value) == text


def test_a_name_stays_in_its_cell():
    assert cell("a | b\nc") == "a \\| b c"


def contenders():
    ours, other = Contender("ours", []), Contender("a|b", [])
    ours.figures |= {
        "download": [0.9, 5.0, 0.8],
        "first byte": [2.0],
        "resident": [60.0],
        "start": [1.0],
        "burst": [1.0],
    }
    other.figures |= {
        "download": [0.45],
        "first byte": [1.0],
        "resident": [61.0],
        "burst": [2.0],
    }
    other.failures |= dict.fromkeys(["upload", "upload cpu", "burst"], "it broke")
    return ours, other


def test_a_table_has_medians_ratios_and_why_what_failed_did():
    conditions = Conditions("delay=5ms", "none", runs=3, seconds=1)
    lines = render(*contenders(), [0.5, 9.0, 0.4], conditions).splitlines()
    assert lines[:4] == [
        "`--pace none --path delay=5ms`, medians of 3 in turns:",
        "",
        "| | ours | a\\|b | ratio | ours is |",
        "|---|---|---|---|---|",
    ]
    for line in (
        "| download, MB/s | 0.900 | 0.450 | 2.00 | first |",
        "| upload, MB/s | - | fails | - | - |",
        "| connect to first byte, ms | 2.00 | 1.00 | 2.00 | second |",
        "| the same / a bare relay's over an open websocket (0.500 ms)"
        " | 4.00 | 2.00 | - | - |",
        "| resident memory, MiB | 60.0 | 61.0 | 0.984 | even |",
        "| 4 downloads of 1 MiB at once, s | 1.00 | fails | - | - |",
        "| start until the first answer, s | 1.00 | - | - | - |",
    ):
        assert line in lines
    assert len({line.count(" | ") for line in lines if line.startswith("| ")}) == 1
    assert lines[-2:] == [
        "",
        "* a|b fails (upload, MB/s; processor time of an upload, ms/MiB; "
        "4 downloads of 1 MiB at once, s): it broke",
    ]


def test_every_row_is_filled_by_one_step_or_by_the_start():
    filled = ["start", *(key for step in STEPS for key in step.rows)]
    assert sorted(filled) == sorted(row.key for row in ROWS)
