from tests.support.tui import need_textual

need_textual()
