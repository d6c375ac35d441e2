"""A table of very many rows that costs as much as those that are seen.

textual's own table keeps a cell for each value and measures each change; here a row
becomes text when it is drawn, and a line is drawn when its text has changed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from rich.style import Style
from textual.binding import Binding, BindingType
from textual.events import Click, Resize
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip
from typing_extensions import override

from ssmtunneld.cli.terminal.table import GAP, Column, fit
from ssmtunneld.cli.terminal.text import visible
from ssmtunneld.cli.top.panes import Pane, Row

_SHORTEST_REST: Final = 12
"""Cells that the column which takes the rest wants at least."""
_HEADINGS: Final = 1
"""Lines above the rows."""

_Line = tuple[tuple[str, str], ...]
"""Text and style, column by column."""


class RowTable(ScrollView, can_focus=True):
    """The rows of a pane, and one that is selected.

    Args:
        pane: What it shows.
    """

    DEFAULT_CSS = """
    RowTable { height: 1fr; overflow-x: hidden; scrollbar-size-vertical: 1; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        # By priority, as all keys of the screen: else they would overtake these.
        Binding(key, action, description, show=False, priority=True)
        for key, action, description in (
            ("up", "move(-1)", "Up"),
            ("down", "move(1)", "Down"),
            ("pageup", "page(-1)", "Page up"),
            ("pagedown", "page(1)", "Page down"),
            ("home", "edge(-1)", "First"),
            ("end", "edge(1)", "Last"),
            ("enter", "choose", "Choose"),
        )
    ]

    @dataclass
    class Selected(Message):
        """Another row is selected, or the selected one tells something new."""

        table: "RowTable"

    @dataclass
    class Chosen(Message):
        """Enter was pressed at a row."""

        row: Row

    def __init__(self, pane: Pane) -> None:
        super().__init__(id=pane.name)
        self.pane = pane
        self._rows: Sequence[Row] = ()
        self._cursor = 0
        self._wanted: dict[str, int] = {}
        self._widths: dict[str, int] = {}
        self._drawn: dict[int, _Line] = {}
        self._stale = False

    @property
    def selected(self) -> Row | None:
        """The selected row; None if there are no rows."""
        return self._rows[self._cursor] if self._rows else None

    @property
    def count(self) -> int:
        """Number of rows."""
        return len(self._rows)

    def show(self, rows: Sequence[Row], *, anew: bool = False) -> None:
        """Show ``rows``; what was selected stays so as long as it is there.

        Args:
            rows: All of them.
            anew: Whether columns get the widths of these rows, and no more.
        """
        at_end = self.pane.follows and self._cursor >= len(self._rows) - 1
        before = self.selected
        self._rows = rows
        self._cursor = len(rows) - 1 if at_end else self._index(before)
        self._cursor = max(0, self._cursor)
        self.virtual_size = Size(0, len(rows) + _HEADINGS)
        self._scroll_to_cursor()
        self._measure(anew=anew)
        self._redraw()
        self.post_message(self.Selected(self))

    def become_stale(self, *, stale: bool) -> None:
        """Show by a dim colour that nothing new comes, or that it does again."""
        if stale != self._stale:
            self._stale = stale
            self.refresh()

    def _index(self, row: Row | None) -> int:
        """Return the place of ``row`` among the rows, or the one nearest to before."""
        if row is not None:
            key = self.pane.key(row)
            # Where it was, in most cases.
            here = self._rows[self._cursor : self._cursor + 1]
            if any(self.pane.key(each) == key for each in here):
                return self._cursor
            for index, each in enumerate(self._rows):
                if self.pane.key(each) == key:
                    return index
        return min(self._cursor, len(self._rows) - 1)

    # Moving.

    def action_move(self, step: int) -> None:
        """Select the row ``step`` rows further down."""
        self._select(self._cursor + step)

    def action_page(self, step: int) -> None:
        """Select the row ``step`` pages further down."""
        self._select(self._cursor + step * max(self._room - 1, 1))

    def action_edge(self, step: int) -> None:
        """Select the first row, or the last."""
        self._select(0 if step < 0 else len(self._rows) - 1)

    def action_choose(self) -> None:
        """Tell that the selected row was chosen."""
        if (row := self.selected) is not None:
            self.post_message(self.Chosen(row))

    def on_click(self, event: Click) -> None:
        """Select the row below the mouse."""
        if event.y >= _HEADINGS:
            self._select(self.scroll_offset.y + event.y - _HEADINGS)

    def _select(self, index: int) -> None:
        self._cursor = max(0, min(index, len(self._rows) - 1))
        self._scroll_to_cursor()
        self._measure()
        self._redraw()
        self.post_message(self.Selected(self))

    @property
    def _room(self) -> int:
        """Rows that can be seen."""
        return max(self.scrollable_content_region.height - _HEADINGS, 1)

    def _scroll_to_cursor(self) -> None:
        top = self.scroll_offset.y
        if self._cursor < top:
            self.scroll_to(y=self._cursor, animate=False)
        elif self._cursor >= top + self._room:
            self.scroll_to(y=self._cursor - self._room + 1, animate=False)

    def on_resize(self, _: Resize) -> None:
        """Fit the columns to another width."""
        self._scroll_to_cursor()
        self._measure(anew=True)
        self.refresh()

    @override
    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        super().watch_scroll_y(old_value, new_value)
        self._measure()

    # Drawing.

    def _seen(self) -> Sequence[Row]:
        top = self.scroll_offset.y
        return self._rows[top : top + self._room]

    def _measure(self, *, anew: bool = False) -> None:
        """Let columns grow to what is seen; only ``anew`` they may shrink.

        Rows that are not seen are not measured: there can be thousands.
        """
        if anew or not self._wanted:
            self._wanted = {c.heading: cell_len(c.heading) for c in self.pane.columns}
        for row in self._seen():
            for column in self.pane.columns:
                long = cell_len(_cell(column, row))
                wide = max(self._wanted[column.heading], long)
                self._wanted[column.heading] = wide
        width = self.scrollable_content_region.width
        wanted, rest = dict(self._wanted), self.pane.rest
        if rest:
            wanted[rest] = min(wanted[rest], _SHORTEST_REST)
        widths = fit(wanted, self.pane.columns, width)
        if rest in widths:
            others = sum(w + GAP for heading, w in widths.items() if heading != rest)
            widths[rest] = max(width - others, 1)
        if widths != self._widths:
            self._widths = widths
            self.refresh()

    def _shown(self) -> list[Column]:
        return [c for c in self.pane.columns if c.heading in self._widths]

    def _line(self, y: int) -> _Line:
        """Return the texts and styles of line ``y`` of what is seen."""
        shown = self._shown()
        if y < _HEADINGS:
            return tuple(
                (_fitted(c.heading, self._widths[c.heading], right=c.right), "bold")
                for c in shown
            )
        index = self.scroll_offset.y + y - _HEADINGS
        if index >= len(self._rows):
            is_empty = not self._rows and y == _HEADINGS
            return ((self.pane.empty, "dim"),) if is_empty else ()
        row = self._rows[index]
        mark = ""
        if index == self._cursor:
            mark = " reverse" if self.has_focus else " bold"
        return tuple(
            (
                _fitted(_cell(c, row), self._widths[c.heading], right=c.right),
                f"{c.style(row)}{mark}",
            )
            for c in shown
        )

    def _redraw(self) -> None:
        """Draw the lines that are not as they were drawn last."""
        for y in range(self.scrollable_content_region.height):
            if self._drawn.get(y) != self._line(y):
                self.refresh_line(y + self.scroll_offset.y)

    @override
    def render_line(self, y: int) -> Strip:
        """Return line ``y`` of what is seen."""
        line = self._line(y)
        self._drawn[y] = line
        base = self.rich_style
        if self._stale:
            base += Style(dim=True)
        segments = []
        for text, style in line:
            look = base + Style.parse(style)
            segments.append(Segment(text + " " * GAP, look))
        # The cursor reaches from edge to edge.
        last = base + Style.parse(line[-1][1]) if line else base
        width = self.scrollable_content_region.width
        return Strip(segments).adjust_cell_length(width, last)

    def on_focus(self) -> None:
        """Show which table has the keys."""
        self._redraw()

    def on_blur(self) -> None:
        """Show that it has the keys no more."""
        self._redraw()


def _cell(column: Column, row: Row) -> str:
    # Again: whatever a column forgets, no row may reach the terminal as it is.
    return visible(", ".join(column.lines(row)))


def _fitted(text: str, width: int, *, right: bool) -> str:
    """Return ``text`` in ``width`` cells; an ellipsis stands for what is cut."""
    missing = width - cell_len(text)
    if missing < 0:
        return set_cell_size(text, max(width - 1, 0)) + "…"
    return " " * missing + text if right else text + " " * missing
