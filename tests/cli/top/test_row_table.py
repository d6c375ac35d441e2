"""A table of many rows: what is drawn, what is selected, what is drawn again."""

from contextlib import asynccontextmanager

import pytest
from textual.app import App

from ssmtunneld.cli.top.panes import CONNECTIONS, EVENTS
from ssmtunneld.cli.top.row_table import RowTable
from tests.cli.household import connection_document, event_document
from tests.support.tui import screen_of, showing


class Host(App):
    """Nothing but a table; notes what it tells."""

    def __init__(self, pane):
        super().__init__(ansi_color=True)
        self.table = RowTable(pane)
        self.told = []

    def compose(self):
        yield self.table

    def on_row_table_chosen(self, message):
        self.told.append(self.table.pane.key(message.row))


@asynccontextmanager
async def shown(rows, pane=CONNECTIONS, columns=80, height=11):
    app = Host(pane)
    async with showing(app, columns, height) as pilot:
        app.table.focus()
        app.table.show(rows)
        await pilot.pause()
        yield pilot, app.table


def rows_of(count, **changes):
    return [connection_document(f"c-{n}", **changes) for n in range(count)]


def names(app):
    """Return the ids on the screen, from top to bottom."""
    return [line.split()[0] for line in screen_of(app)[1:] if line.strip()]


async def test_headings_stand_above_the_rows_that_there_is_room_for():
    async with shown(rows_of(500)) as (pilot, table):
        lines = screen_of(pilot.app)
        assert lines[0].split() == [
            *("ID", "TUNNEL", "USER", "PROGRAM", "AGE"),
            *("UP", "DOWN", "UP/S", "DOWN/S"),
        ]
        assert names(pilot.app) == [f"c-{n}" for n in range(10)]
        assert table.count == 500


@pytest.mark.parametrize(
    ("columns", "last"), [(200, "FROM"), (80, "DOWN/S"), (40, "AGE")]
)
async def test_columns_without_room_are_left_out(columns, last):
    async with shown(rows_of(3), columns=columns) as (pilot, _):
        assert screen_of(pilot.app)[0].split()[-1] == last
        assert max(map(len, screen_of(pilot.app))) <= columns


@pytest.mark.parametrize(
    ("keys", "selected"),
    [
        (["down", "down"], "c-2"),
        (["down", "up", "up"], "c-0"),
        (["pagedown"], "c-9"),
        (["pagedown", "pagedown", "pageup"], "c-9"),
        (["end"], "c-49"),
        (["end", "home"], "c-0"),
    ],
)
async def test_keys_select_a_row_and_bring_it_into_sight(keys, selected):
    async with shown(rows_of(50)) as (pilot, table):
        await pilot.press(*keys)
        assert table.selected["id"] == selected
        assert selected in names(pilot.app)


async def test_the_last_row_has_the_last_line():
    async with shown(rows_of(50)) as (pilot, _):
        await pilot.press("end")
        assert names(pilot.app) == [f"c-{n}" for n in range(40, 50)]


async def test_the_mouse_selects_and_scrolls():
    async with shown(rows_of(50)) as (pilot, table):
        await pilot.click(RowTable, offset=(3, 4))
        assert table.selected["id"] == "c-3"
        await pilot.click(RowTable, offset=(3, 0))  # the headings
        assert table.selected["id"] == "c-3"
        table.scroll_to(y=20, animate=False)
        await pilot.pause()
        assert names(pilot.app)[0] == "c-20"
        await pilot.click(RowTable, offset=(3, 1))
        assert table.selected["id"] == "c-20"


async def test_enter_tells_what_was_chosen():
    async with shown(rows_of(3)) as (pilot, table):
        await pilot.press("down", "enter")
        assert pilot.app.told == ["c-1"]
        table.show([])
        await pilot.press("enter")
        assert pilot.app.told == ["c-1"]


async def test_what_is_selected_stays_so_wherever_it_moves():
    async with shown(rows_of(50)) as (pilot, table):
        await pilot.press("down", "down")
        fresh = [connection_document(f"new-{n}") for n in range(30)]
        table.show(fresh + rows_of(50))
        await pilot.pause()
        assert table.selected["id"] == "c-2"
        assert "c-2" in names(pilot.app)


async def test_after_a_row_that_has_gone_its_neighbour_is_selected():
    async with shown(rows_of(5)) as (pilot, table):
        await pilot.press("end")
        table.show(rows_of(3))
        await pilot.pause()
        assert table.selected["id"] == "c-2"
        table.show([])
        await pilot.pause()
        assert table.selected is None
        assert screen_of(pilot.app)[1].strip() == "nobody is connected"
        await pilot.press("down", "up", "end", "home", "pagedown")
        table.show(rows_of(2))
        await pilot.pause()
        assert table.selected["id"] == "c-0"


async def test_a_log_follows_its_end_until_somebody_looks_at_another_line():
    events = [event_document(n) for n in range(1, 31)]
    async with shown(events[:20], EVENTS) as (pilot, table):
        assert table.selected["number"] == 20
        table.show(events[:25])
        await pilot.pause()
        assert table.selected["number"] == 25
        assert "session=me-25" in screen_of(pilot.app)[-1]
        await pilot.press("up")
        table.show(events)
        await pilot.pause()
        assert table.selected["number"] == 24


async def test_only_lines_that_have_changed_are_drawn_again():
    rows = rows_of(500)
    async with shown(rows) as (pilot, table):
        drawn = []
        table.refresh_line = drawn.append
        table.show([*rows])
        assert drawn == []
        rows[2] = connection_document("c-2", sent=4096)
        rows[400] = connection_document("c-400", sent=4096)
        table.show([*rows])
        assert drawn == [3]
        assert await moved_line(pilot, table, rows) == "4.0"


async def moved_line(pilot, table, rows):
    """Return what the third row shows as sent once it is really drawn."""
    del table.refresh_line
    table.show([*rows])
    await pilot.pause()
    return screen_of(pilot.app)[3].split()[6]


async def test_only_rows_in_sight_become_text():
    rows = rows_of(5000)
    counted = []

    class Counting(dict):
        def __getitem__(self, key):
            counted.append(key)
            return super().__getitem__(key)

    async with shown([Counting(row) for row in rows]) as (_, table):
        counted.clear()
        table.show([Counting(row) for row in rows])
        assert counted.count("sent") <= 3 * 11


async def test_columns_grow_to_what_is_in_sight_and_do_not_flicker():
    async with shown(rows_of(5)) as (pilot, table):
        narrow = screen_of(pilot.app)[0].index("TUNNEL")
        table.show([connection_document("c-long-name")])
        await pilot.pause()
        wide = screen_of(pilot.app)[0].index("TUNNEL")
        assert wide > narrow
        table.show(rows_of(5))
        await pilot.pause()
        assert screen_of(pilot.app)[0].index("TUNNEL") == wide
        table.show(rows_of(5), anew=True)
        await pilot.pause()
        assert screen_of(pilot.app)[0].index("TUNNEL") == narrow


async def test_what_is_too_long_is_cut_and_says_so():
    events = [event_document(facts={"reason": "word " * 50})]
    async with shown(events, EVENTS) as (pilot, _):
        assert screen_of(pilot.app)[1].endswith("…")
        assert len(screen_of(pilot.app)[1]) <= 80


async def test_nothing_in_a_cell_is_markup_or_reaches_the_terminal():
    rows = [connection_document(user="[red]a[/red]", program="x\x1b]0;y\x07")]
    async with shown(rows, columns=120) as (pilot, _):
        line = screen_of(pilot.app)[1]
        assert "[red]a[/red]" in line
        assert "x\\u001b]0;y\\u0007[812]" in line


async def test_a_wide_character_takes_two_cells():
    rows = [connection_document(user="日本"), connection_document("b", user="abcd")]
    async with shown(rows) as (pilot, _):
        first, second = screen_of(pilot.app)[1:3]
        assert first.index("psql") == second.index("psql") - 2


def style_of(app, y):
    strips = app.screen._compositor.render_strips()
    return next(iter(strips[y])).style


async def test_the_selected_row_is_marked_without_colour_with_and_without_focus():
    async with shown(rows_of(3)) as (pilot, table):
        assert style_of(pilot.app, 1).reverse
        assert not style_of(pilot.app, 2).reverse
        pilot.app.set_focus(None)
        await pilot.pause()
        assert not style_of(pilot.app, 1).reverse
        assert style_of(pilot.app, 1).bold
        assert not style_of(pilot.app, 2).bold
        table.become_stale(stale=True)
        await pilot.pause()
        assert style_of(pilot.app, 2).dim
        table.become_stale(stale=False)
        await pilot.pause()
        assert not style_of(pilot.app, 2).dim


async def test_another_size_fits_the_columns_anew():
    async with shown(rows_of(30), columns=200) as (pilot, table):
        await pilot.press("end")
        await pilot.resize_terminal(40, 5)
        await pilot.pause()
        assert screen_of(pilot.app)[0].split()[-1] == "AGE"
        assert table.selected["id"] in names(pilot.app)
