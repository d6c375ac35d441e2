"""A real headless Chromium, driven over its own protocol (CDP); for asyncio.

::

    async with chromium("--proxy-server=socks5://127.0.0.1:1080") as browser:
        async with browser.page() as page:
            await page.open("http://127.0.0.1:9300/")
            await page.until("document.querySelectorAll('tbody').length > 2")
            assert page.complaints == []
"""

import asyncio
import base64
import json
import os
import shutil
import signal
import subprocess
import tempfile
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from websockets.asyncio.client import connect

PATIENCE = 60.0
"""Seconds until a test gives up waiting for what never comes."""
_MOMENT = 0.05

FLAGS = (
    "--headless",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-extensions",
    "--disable-sync",
    "--no-first-run",
    "--hide-scrollbars",
    "--force-color-profile=srgb",
    "--remote-debugging-port=0",
)


def find_chromium():
    """Return the path of a Chromium; skip the test where there is none.

    With SSMTUNNELD_REQUIRE_INTEROP, as in CI, a missing one is a failure.
    """
    names = ("chromium", "chromium-browser", "google-chrome")
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        if os.environ.get("SSMTUNNELD_REQUIRE_INTEROP"):
            pytest.fail("not installed: chromium")
        pytest.skip("not installed: chromium")
    return found


@asynccontextmanager
async def chromium(*arguments):
    """Run a browser of our own, with an empty profile and further ``arguments``."""
    program = find_chromium()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = _launch(program, Path(profile), arguments)
        try:
            address = await asyncio.to_thread(_debugger, process, Path(profile))
            async with (
                connect(address, max_size=None, proxy=None) as websocket,
                asyncio.TaskGroup() as tasks,
            ):
                browser = Browser(websocket)
                reading = tasks.create_task(browser.read(), name="chromium")
                yield browser
                reading.cancel()
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            await asyncio.to_thread(process.wait, PATIENCE)


def _launch(program, profile, arguments):
    # As root it refuses to sandbox itself.
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    with (profile / "log").open("wb") as output:
        return subprocess.Popen(
            [program, *FLAGS, *sandbox, f"--user-data-dir={profile}", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            env={**os.environ, "HOME": str(profile)},
        )


def _debugger(process, profile):
    """Return the websocket's address, once the browser has written its port down."""
    file = profile / "DevToolsActivePort"
    for _ in range(round(PATIENCE / _MOMENT)):
        lines = file.read_text().split() if file.exists() else []
        if len(lines) == 2:
            return f"ws://127.0.0.1:{lines[0]}{lines[1]}"
        # Give it a moment; return sooner if it ends.
        with suppress(subprocess.TimeoutExpired):
            process.wait(_MOMENT)
            break
    raise AssertionError((profile / "log").read_text(errors="replace"))


class Browser:
    """The connection to a browser; one for all its pages."""

    def __init__(self, websocket):
        self._websocket = websocket
        self._number = 0
        self._answers = {}
        self._pages = {}

    async def read(self):
        """Hand out what the browser says, until cancelled."""
        async for text in self._websocket:
            message = json.loads(text)
            if "id" in message:
                self._answers.pop(message["id"]).set_result(message)
            elif message.get("sessionId") in self._pages:
                self._pages[message["sessionId"]].take(message)

    async def call(self, method, session=None, **parameters):
        """Call a method of the protocol and return its result."""
        self._number += 1
        request = {"id": self._number, "method": method, "params": parameters}
        if session is not None:
            request["sessionId"] = session
        answer = asyncio.get_running_loop().create_future()
        self._answers[self._number] = answer
        await self._websocket.send(json.dumps(request))
        async with asyncio.timeout(PATIENCE):
            message = await answer
        assert "error" not in message, (method, message)
        return message["result"]

    @asynccontextmanager
    async def page(self, *, width=1280, height=900, dark=False):
        """Open an empty page in a context (cookies, cache) of its own."""
        context = (await self.call("Target.createBrowserContext"))["browserContextId"]
        created = await self.call(
            "Target.createTarget", url="about:blank", browserContextId=context
        )
        attached = await self.call(
            "Target.attachToTarget", targetId=created["targetId"], flatten=True
        )
        session = attached["sessionId"]
        page = self._pages[session] = Page(self, session)
        for domain in ("Page", "Runtime", "Network", "Log", "Audits"):
            await page.call(f"{domain}.enable")
        await page.resize(width, height)
        await page.prefer(dark=dark)
        try:
            yield page
        finally:
            del self._pages[session]
            await self.call("Target.disposeBrowserContext", browserContextId=context)


class Page:
    """One page.

    Attributes:
        complaints: What the console, the browser's log and its audits said: errors,
            warnings, violations of the content security policy.
        requests: The address of every request that it made.
    """

    def __init__(self, browser, session):
        self._browser = browser
        self._session = session
        self.complaints = []
        self.requests = []

    async def call(self, method, **parameters):
        """Call a method of the protocol for this page."""
        return await self._browser.call(method, self._session, **parameters)

    def take(self, message):
        """Note an event."""
        said = message["params"]
        match message["method"]:
            case "Network.requestWillBeSent":
                self.requests.append(said["request"]["url"])
            case "Runtime.exceptionThrown":
                self.complaints.append(said["exceptionDetails"])
            case "Runtime.consoleAPICalled" if said["type"] in {"error", "warning"}:
                self.complaints.append(said["args"])
            case "Log.entryAdded" if said["entry"]["level"] in {"error", "warning"}:
                self.complaints.append(said["entry"])
            case "Audits.issueAdded":
                self.complaints.append(said["issue"])
            case _:
                pass

    async def resize(self, width, height):
        """Let the window have this size, in CSS pixels."""
        await self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )

    async def prefer(self, *, dark):
        """Choose what the system's colours are."""
        value = "dark" if dark else "light"
        features = [{"name": "prefers-color-scheme", "value": value}]
        await self.call("Emulation.setEmulatedMedia", features=features)

    async def open(self, address):
        """Go to ``address`` and wait until the document is complete."""
        result = await self.call("Page.navigate", url=address)
        assert "errorText" not in result, result
        await self.until(
            "location.href !== 'about:blank' && document.readyState === 'complete'"
        )

    async def evaluate(self, expression):
        """Return the value of a JavaScript expression; promises are awaited."""
        result = await self.call(
            "Runtime.evaluate",
            expression=expression,
            awaitPromise=True,
            returnByValue=True,
        )
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    async def until(self, expression):
        """Return the value of ``expression`` as soon as it is true."""
        # The browser's own clock: between two looks the page has its turn.
        script = (
            "new Promise(done => { const look = () => {"
            f" let value; try {{ value = ({expression}); }} catch {{ value = false; }}"
            " if (value) done(value); else setTimeout(look, 50); }; look(); })"
        )
        try:
            return await self.evaluate(script)
        except TimeoutError:
            text = await self.evaluate("document.body.innerText")
            raise AssertionError(f"never true: {expression}\n{text}") from None

    async def press(self, key, code=None, text=""):
        """Press and release a key: ``Tab``, ``Enter``, ``a``."""
        keys = {"Tab": 9, "Enter": 13, " ": 32}
        named = {
            "key": key,
            "code": code or key,
            "windowsVirtualKeyCode": keys.get(key, 0),
        }
        text = text or {"Enter": "\r", " ": " "}.get(key, key if len(key) == 1 else "")
        await self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **named)
        await self.call("Input.dispatchKeyEvent", type="keyUp", **named)

    async def screenshot(self, *, whole=False):
        """Return a PNG of the window, or of the whole page."""
        clip = {}
        if whole:
            size = (await self.call("Page.getLayoutMetrics"))["cssContentSize"]
            clip = {
                "clip": {
                    "x": 0,
                    "y": 0,
                    "width": size["width"],
                    "height": size["height"],
                    "scale": 1,
                }
            }
        shot = await self.call(
            "Page.captureScreenshot", format="png", captureBeyondViewport=whole, **clip
        )
        return base64.b64decode(shot["data"])
