"""The status page in a real browser: what it shows, says, asks for, and survives."""

import asyncio
import json
import os
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from ssmtunneld.base.log import get_log
from ssmtunneld.config import TcpAddress
from ssmtunneld.observe import logs
from ssmtunneld.observe.history import TrafficSample
from ssmtunneld.observe.status import TunnelState
from ssmtunneld.serve.status_page import Admission, serve_web
from tests.cli.household import connection_document
from tests.integration.world import logging
from tests.observe.samples import daemon, session, tunnel
from tests.support.chromium import chromium
from tests.support.ports import free_port

EVIL = "</td><script>document.title='pwned'</script><img src=x onerror=alert(1)>"


@pytest.fixture
async def browser():
    async with chromium() as started:
        yield started


@pytest.fixture
async def events():
    async with logging() as caught:
        yield caught


class Subject:
    """A daemon that the test changes while the page looks."""

    def __init__(self, *tunnels):
        self.status = daemon(*tunnels)
        self.moved = 0
        self.present = []
        self.more = 0

    async def connections(self, name, limit):
        assert name is None
        assert limit == 200
        return {"version": 1, "connections": self.present, "more": self.more}

    def change(self, name, **changes):
        """Let one tunnel be otherwise."""
        tunnels = [
            replace(m, **changes) if m.name == name else m for m in self.status.tunnels
        ]
        self.status = replace(self.status, tunnels=tuple(tunnels))

    revision = 0

    async def survey(self):
        return self.status

    def readings(self):
        self.moved += 300_000
        return {
            m.name: TrafficSample(
                self.moved * (i == 0), self.moved // 2 * (i == 0), 0.03
            )
            for i, m in enumerate(self.status.tunnels)
        }


@asynccontextmanager
async def serving(subject, events, port=0):
    """Serve ``subject``; yield the page's address."""
    async with asyncio.TaskGroup() as tasks:
        address = TcpAddress("127.0.0.1", port)
        count = len(events.find("http.bound")) + 1
        serve = serve_web(subject, [address], Admission(), get_log())
        task = tasks.create_task(serve, name="web")
        bound = await events.wait_for("http.bound", count=count)
        try:
            yield f"http://{bound['address']}/"
        finally:
            task.cancel()


def household():
    """One of each kind."""
    return Subject(
        tunnel("orders-db", connections=2, rtt=0.03, sessions=(session(streams=2),)),
        tunnel("cache", "idle", required=False),
        tunnel(
            "billing-db",
            "waiting",
            reason="StartSession failed: TargetNotConnected: i-1 is not connected.",
            advice="check that i-1 runs",
            retry_in=12.5,
        ),
        tunnel("wiki", "unbound", listen=(), required=False),
    )


def crowded():
    """The same, with somebody connected."""
    subject = household()
    subject.present = [connection_document()]
    return subject


def text_of(selector):
    return f"document.querySelector({json.dumps(selector)}).textContent"


SHOWN = "document.querySelectorAll('tbody.tunnel').length"
STATES = (
    "[...document.querySelectorAll('tbody.tunnel')].map(row =>"
    " row.querySelector('.toggle').textContent + ' ' +"
    " row.querySelector('.badge .words').textContent)"
)


TONES = (
    "Object.fromEntries([...document.querySelectorAll('tbody.tunnel')].map(row =>"
    " [row.querySelector('.badge .words').textContent,"
    " row.querySelector('.badge').dataset.tone + ' ' +"
    " row.querySelector('.badge .glyph').textContent]))"
)


async def test_targets_that_sleep_and_access_on_request_are_shown_as_what_they_are(
    browser, events
):
    access = {
        "needs_access": "bad !",
        "awaiting_approval": "wait …",
        "access_rejected": "bad ✕",
        "access_revoked": "bad ✕",
        "access_expired": "bad !",
    }
    subject = Subject(
        tunnel("night", "asleep", usable=True, reason="bastion i-1 is asleep"),
        tunnel("dawn", "waking", usable=True, reason="starting bastion i-2: pending"),
        *(
            tunnel(state, state, usable=False, advice=f"run: {state}")
            for state in access
        ),
    )
    async with serving(subject, events) as address, browser.page() as page:
        await page.open(address)
        await page.until(f"{SHOWN} === 7")
        tones = {"asleep": "calm ○", "waking": "wait …", **access}
        assert await page.evaluate(TONES) == tones
        why = await page.evaluate(text_of("#tunnel-night .why"))
        assert "bastion i-1 is asleep" in why
        why = await page.evaluate(text_of("#tunnel-dawn .why"))
        assert "starting bastion i-2: pending" in why
        for state in access:
            why = await page.evaluate(text_of(f"#tunnel-{state} .why"))
            assert f"What to do: run: {state}." in why
        # Whoever connects to one that sleeps is served: nobody need do anything.
        assert await page.evaluate(text_of("#tile-usable")) == "2 of 7"
        needs = await page.evaluate(text_of("#attention-list"))
        assert needs.split() == [
            word for state in access for word in (state, f"({state})")
        ]
        subject.change("dawn", state=TunnelState.READY, reason="")
        await page.until(f"{STATES}[1] === 'dawn ready'")


async def test_it_shows_every_tunnel_with_its_state_why_and_what_to_do(browser, events):
    async with serving(household(), events) as address, browser.page() as page:
        await page.open(address)
        await page.until(f"{SHOWN} === 4")
        assert await page.evaluate(STATES) == [
            "orders-db ready",
            "cache idle",
            "billing-db waiting",
            "wiki unbound",
        ]
        why = await page.evaluate(text_of("#tunnel-billing-db .why"))
        assert "TargetNotConnected" in why
        assert "What to do: check that i-1 runs." in why
        assert await page.evaluate(text_of("#tile-usable")) == "2 of 4"
        needs = await page.evaluate(text_of("#attention-list"))
        assert needs.split() == ["billing-db", "(waiting)", "wiki", "(unbound)"]
        # Drawn from samples that came with the second look.
        await page.until(
            "document.querySelector('#plot-all .down').getAttribute('d').length > 10"
        )
        await page.until(f"{text_of('#tile-down')} !== '0 B/s'")
        assert page.complaints == []
        assert {
            url.partition("?")[0] for url in page.requests if url[:5] != "data:"
        } == {
            address,
            f"{address}page.css",
            f"{address}page.js",
            f"{address}status.json",
        }


async def test_it_asks_only_for_what_is_new(browser, events):
    async with serving(household(), events) as address, browser.page() as page:
        await page.open(address)
        await page.until(
            "performance.getEntriesByName"
            " && performance.getEntriesByType('resource').length >= 5"
        )
        asked = [u for u in page.requests if "status.json" in u]
        numbers = [int(u.partition("sample=")[2].partition("&")[0]) for u in asked]
        assert numbers[0] == 0
        assert numbers == sorted(set(numbers))


async def test_changes_are_shown_and_announced(browser, events):
    subject = household()
    async with serving(subject, events) as address, browser.page() as page:
        await page.open(address)
        await page.until(f"{SHOWN} === 4")
        subject.change("orders-db", state="failed", usable=False, reason="no document")
        await page.until(f"{STATES}[0] === 'orders-db failed'")
        said = await page.until(text_of("#announcer"))
        assert said == "orders-db is failed: no document. "
        assert await page.evaluate("document.title") == "(3) ssmtunneld"
        subject.status = replace(subject.status, tunnels=subject.status.tunnels[1:])
        await page.until(f"{SHOWN} === 3")
        assert page.complaints == []


async def test_a_start_without_trouble_needs_nobodys_attention(browser, events):
    subject = household()
    async with serving(subject, events) as address, browser.page() as page:
        await page.open(address)
        await page.until(f"{SHOWN} === 4")
        subject.change("orders-db", state="starting", usable=False, reason="")
        await page.until(f"{STATES}[0] === 'orders-db starting'")
        assert await page.evaluate(text_of("#tile-usable")) == "1 of 4"
        needs = await page.evaluate(text_of("#attention-list"))
        assert needs.split() == ["billing-db", "(waiting)", "wiki", "(unbound)"]
        subject.change("orders-db", state="starting", usable=False, reason="throttled")
        await page.until(f"{text_of('#attention-list')}.includes('orders-db')")


async def test_a_lost_daemon_is_said_and_found_again(browser, events):
    port = free_port()
    link = "document.querySelector('#link .words').textContent"
    async with browser.page() as page:
        async with serving(household(), events, port) as address:
            await page.open(address)
            await page.until(f"{link} === 'live'")
        await page.until(f"{link}.startsWith('connection lost')")
        assert "lost" in await page.evaluate("document.body.className")
        assert "is lost" in await page.evaluate(text_of("#announcer"))
        other = Subject(tunnel("new"))
        other.status = replace(other.status, pid=8, uptime=1.0)
        async with serving(other, events, port):
            await page.until(f"{link} === 'live'")
            await page.until(f"{STATES}.join() === 'new ready'")
            assert "answers again" in await page.evaluate(text_of("#announcer"))


async def test_events_are_shown_newest_first_and_can_be_filtered(browser, events):
    logs.recent.clear()
    rows = "[...document.querySelectorAll('#events tr')].filter(r => !r.hidden)"
    names = f"{rows}.map(r => r.querySelector('.name').textContent).join(' ')"
    async with serving(household(), events) as address, browser.page() as page:
        logs.recent(None, "info", {"event": "daemon.ready"})
        logs.recent(None, "warning", {"event": "link.lost", "tunnel": "db", "n": 3})
        await page.open(address)
        await page.until(f"{names} === 'link.lost daemon.ready'")
        logs.recent(None, "error", {"event": "listener.failed"})
        await page.until(f"{names} === 'listener.failed link.lost daemon.ready'")
        facts = await page.evaluate(f"{rows}[1].querySelector('.facts').textContent")
        assert facts.split() == ["db", "n", "3"]
        await page.evaluate(
            "(s => { s.value = 'trouble'; s.dispatchEvent(new Event('change')); })"
            "(document.getElementById('level'))"
        )
        assert await page.evaluate(names) == "listener.failed link.lost"
    logs.recent.clear()


NONE = "\N{EN DASH}"
CONNECTIONS = (
    "[...document.querySelectorAll('#connections tr')].map(row =>"
    " [...row.children].map(cell => cell.textContent).join('|'))"
)


async def test_who_is_connected_is_asked_for_only_while_it_is_shown(browser, events):
    subject = household()
    subject.present = [
        connection_document(),
        connection_document("a-2", user=None, pid=None, session=None, destination=""),
    ]
    note = text_of("#connections-note")
    async with serving(subject, events) as address, browser.page() as page:
        await page.open(address)
        await page.until(f"{SHOWN} === 4")
        assert "connections.json" not in str(page.requests)
        await page.evaluate("document.getElementById('connections-toggle').click()")
        await page.until(f"{CONNECTIONS}.length === 2")
        assert await page.evaluate(CONNECTIONS) == [
            "7c1e0a-17|db|ada|psql (812)|1 min 1 s|5 B|2.0 KiB|0 B/s|1.0 KiB/s"
            "|3 on i-0123456789abcdef0|orders:5432|127.0.0.1:40000",
            f"a-2|db|{NONE}|{NONE}|1 min 1 s|5 B|2.0 KiB|0 B/s|1.0 KiB/s"
            f"|waiting|{NONE}|127.0.0.1:40000",
        ]
        assert await page.evaluate(note) == "To end one: ssmtunneld kill ID."
        subject.present, subject.more = subject.present[:1], 7
        await page.until(f"{note}.startsWith('And 7 more')")
        subject.present, subject.more = [], 0
        await page.until(f"{note} === 'Nobody.'")
        assert await page.evaluate("document.getElementById('connection-box').hidden")
        await page.evaluate("document.getElementById('connections-toggle').click()")
        assert await page.evaluate(
            "document.getElementById('connections-shown').hidden"
        )
        assert page.complaints == []


async def test_data_never_becomes_markup(browser, events):
    logs.recent.clear()
    logs.recent(None, "warning", {"event": EVIL, "tunnel": EVIL, EVIL: EVIL})
    subject = Subject(
        tunnel(
            EVIL,
            "waiting",
            reason=EVIL,
            advice=EVIL,
            target=EVIL,
            destination=EVIL,
            listen=(EVIL,),
            sessions=(session(session_id=EVIL, agent=EVIL),),
        )
    )
    texts = ("id", "tunnel", "user", "program", "target", "destination", "peer")
    subject.present = [connection_document(EVIL, **dict.fromkeys(texts[1:], EVIL))]
    async with serving(subject, events) as address, browser.page() as page:
        await page.open(address)
        await page.until(f"{SHOWN} === 1")
        await page.evaluate("document.querySelector('.toggle').click()")
        await page.evaluate("document.getElementById('connections-toggle').click()")
        await page.until("document.querySelectorAll('.sessions tbody tr').length === 2")
        assert await page.evaluate("document.querySelectorAll('img').length") == 0
        assert await page.evaluate("document.querySelectorAll('script').length") == 1
        assert await page.evaluate("document.title") == "(1) ssmtunneld"
        assert await page.evaluate(text_of(".toggle")) == EVIL
        assert page.complaints == []
    logs.recent.clear()


async def test_the_policy_stops_what_the_page_would_never_do(browser, events):
    inline = "document.body.append(Object.assign(document.createElement('script'),"
    async with serving(household(), events) as address, browser.page() as page:
        await page.open(address)
        await page.evaluate(f"{inline} {{ textContent: 'document.title = 1' }}))")
        await page.evaluate(f"{inline} {{ src: 'http://127.0.0.1:9/x.js' }}))")
        stopped = await page.evaluate(
            "fetch('http://127.0.0.1:9/').then(() => 'sent', error => error.name)"
        )
        assert stopped == "TypeError"
        assert await page.evaluate("document.title") != "1"
        assert "Content Security Policy" in str(page.complaints)


async def test_everything_can_be_reached_and_done_with_the_keyboard(browser, events):
    async with serving(household(), events) as address, browser.page() as page:
        await page.open(address)
        await page.until(f"{SHOWN} === 4")
        reached = []
        for _ in range(12):
            await page.press("Tab")
            reached.append(
                await page.evaluate(
                    "(a => a.id || a.getAttribute('aria-controls') || a.className"
                    " || a.getAttribute('href'))(document.activeElement)"
                )
            )
            outline = await page.evaluate(
                "getComputedStyle(document.activeElement).outlineStyle"
            )
            assert outline != "none", reached
            if reached[-1] == "details-orders-db":
                await page.press("Enter")
                await page.until("!document.getElementById('details-orders-db').hidden")
        assert reached == [
            "skip",
            "#tunnel-billing-db",
            "#tunnel-wiki",
            "filter",
            "details-orders-db",
            "session-box",
            "details-cache",
            "details-billing-db",
            "details-wiki",
            "connections-toggle",
            "level",
            "event-box",
        ]


async def test_the_filter_leaves_what_matches(browser, events):
    names = (
        "[...document.querySelectorAll('tbody.tunnel')].filter(r => !r.hidden)"
        ".map(r => r.querySelector('.toggle').textContent).join(' ')"
    )
    async with serving(household(), events) as address, browser.page() as page:
        await page.open(address)
        await page.until(f"{SHOWN} === 4")
        await page.evaluate("document.getElementById('filter').focus()")
        for letter in "DB":
            await page.press(letter)
        assert await page.evaluate(names) == "orders-db billing-db"
        await page.press("x")
        assert await page.evaluate(names) == ""
        assert not await page.evaluate("document.getElementById('nothing').hidden")


AXE = """
axe.run(document, {resultTypes: ["violations"]}).then(found =>
  [found.violations.map(v => v.id + ": " + v.nodes.map(n => n.html).join(" ")),
   found.passes.length])
"""


@pytest.fixture(scope="session")
def axe_core():
    """The text of axe-core, which ``sh tests/interop/install-clients`` installs."""
    root = Path(__file__).parents[2]
    folder = Path(os.environ.get("SSMTUNNELD_CLIENTS", root / ".clients"))
    file = folder / "axe-core/node_modules/axe-core/axe.min.js"
    if not file.exists():
        pytest.skip("not installed: axe-core (sh tests/interop/install-clients)")
    return file.read_text()


@pytest.mark.parametrize("dark", [False, True])
async def test_axe_core_finds_nothing_wrong(browser, events, axe_core, dark):
    subject = household()
    subject.change("cache", sessions=(session(),))
    async with serving(subject, events) as address, browser.page() as page:
        await page.prefer(dark=dark)
        await page.open(address)
        await page.until(f"{SHOWN} === 4")
        await page.evaluate(
            "document.querySelectorAll('tbody.tunnel .toggle').forEach(b => b.click())"
        )
        await page.until("!document.getElementById('details-cache').hidden")
        await page.evaluate(f"{axe_core}; 0")
        wrong, passes = await page.evaluate(AXE)
        assert wrong == []
        assert passes > 30


CONTRAST = """
(() => {
  const parse = text => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => {
    const part = v => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
    return 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
  };
  const ground = element => {
    for (let e = element; e; e = e.parentElement) {
      const colour = parse(getComputedStyle(e).backgroundColor);
      if (colour.length < 4 || colour[3] > 0.9) return colour;
    }
    return [255, 255, 255];
  };
  const poor = [];
  for (const element of document.querySelectorAll('body *')) {
    const own = [...element.childNodes].some(n => n.nodeType === 3 && n.data.trim());
    if (!own || !element.checkVisibility()) continue;
    const a = light(parse(getComputedStyle(element).color));
    const b = light(ground(element));
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) poor.push([element.className, element.textContent, ratio]);
  }
  return poor;
})()
"""


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [1920, 1280, 970, 800, 400, 320])
async def test_it_fits_and_can_be_read(browser, events, width, dark):
    async with (
        serving(crowded(), events) as address,
        browser.page(width=width, dark=dark) as page,
    ):
        await page.open(address)
        await page.until(f"{SHOWN} === 4")
        await page.evaluate("document.querySelector('.toggle').click()")
        await page.evaluate("document.getElementById('connections-toggle').click()")
        await page.until("document.querySelectorAll('.sessions tbody tr').length === 2")
        # Nothing is wider than the window, and no text is too faint (WCAG 2.2 AA).
        wide = await page.evaluate("document.documentElement.scrollWidth")
        assert wide <= width
        assert await page.evaluate(CONTRAST) == []
        assert len(await page.screenshot(whole=True)) > 10_000


UNNAMED = """
[...document.querySelectorAll('button, input, select, a, [role=region], svg, table')]
  .filter(e => e.checkVisibility() && !(e.getAttribute('aria-label')
    || e.getAttribute('aria-labelledby') || e.closest('label') || e.textContent.trim()))
  .map(e => e.outerHTML.slice(0, 80))
"""


async def test_everything_has_a_name_for_a_screen_reader(browser, events):
    async with serving(household(), events) as address, browser.page() as page:
        await page.open(address)
        await page.until(f"{SHOWN} === 4")
        assert await page.evaluate(UNNAMED) == []
        tree = await page.call("Accessibility.getFullAXTree")
        nodes = [
            (n.get("role", {}).get("value"), n.get("name", {}).get("value"))
            for n in tree["nodes"]
        ]
        assert ("heading", "Tunnels") in nodes
        assert ("table", "Tunnels") in nodes
        assert ("rowheader", "orders-db") in nodes
        assert any(
            role == "image" and "last two minutes" in (name or "")
            for role, name in nodes
        )


async def test_500_tunnels_are_shown_in_time(browser, events):
    subject = Subject(*(tunnel(f"tunnel-{n}") for n in range(500)))
    async with serving(subject, events) as address, browser.page() as page:
        await page.open(address)
        await page.until(f"{SHOWN} === 500")
        await page.until("performance.getEntriesByType('resource').length >= 5")
        assert page.complaints == []
