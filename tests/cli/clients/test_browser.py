"""Pages by their real name, where a browser can be told; one is run in interop."""

import pytest

from ssmtunneld.cli import hosts_block
from ssmtunneld.cli.clients.browser import prepare_mapped, prepare_own, wants_name
from ssmtunneld.cli.destination import Local
from tests.cli.clients.conftest import task
from tests.cli.test_destination import only


@pytest.fixture(autouse=True)
def hosts(tmp_path, monkeypatch):
    """A hosts file in which one name leads to the tunnel."""
    file = tmp_path / "hosts"
    file.write_text("127.0.1.2 named.x\n")
    monkeypatch.setattr(hosts_block, "HOSTS_FILE", file)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    return file


@pytest.mark.parametrize(
    ("settings", "url"),
    [
        ({"port": 8080}, "http://127.0.1.2:15432/"),
        ({"port": 443, "host": "wiki.x"}, "https://127.0.1.2:15432/"),
        ({"port": 443, "host": "named.x"}, "https://named.x:15432/"),
        ({"port": 443, "probe": "http:/health"}, "http://127.0.1.2:15432/"),
        ({"port": 80, "local": Local("::1", 80)}, "http://[::1]/"),
    ],
)
def test_the_users_own_browser_goes_to_the_tunnel(settings, url):
    launch = prepare_own(task("http", "xdg-open", **settings))
    assert (launch.words, launch.page) == (["xdg-open", url], url)


def test_a_path_may_be_named():
    ours = prepare_own(task("http", "open", "-g", "/a?b=c", port=80, host="wiki.x"))
    assert ours.words == ["open", "-g", "http://127.0.1.2:15432/a?b=c"]


@pytest.mark.parametrize(
    ("settings", "rule", "url"),
    [
        ({"host": "wiki.x", "port": 443}, "wiki.x:443", "https://wiki.x/d"),
        ({"host": "wiki.x", "port": 8443}, "wiki.x:8443", "https://wiki.x:8443/d"),
        ({"port": 8080}, "localhost:8080", "http://localhost:8080/d"),
    ],
)
def test_a_chromium_takes_the_real_name_to_the_tunnel(settings, rule, url, tmp_path):
    found = prepare_mapped(task("http", "chromium", "--headless", "/d", **settings))
    profile = tmp_path / "state" / "ssmtunneld" / "browser" / "db"
    assert found.words == [
        "chromium",
        f"--user-data-dir={profile}",
        f"--host-resolver-rules=MAP {rule} 127.0.1.2:15432",
        "--no-first-run",
        "--no-default-browser-check",
        "--headless",
        url,
    ]


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ({"host": "wiki.x"}, True),
        ({"host": "named.x"}, False),
        ({"host": "10.0.0.5"}, False),
        ({}, False),
    ],
)
def test_a_name_is_wanted_where_it_leads_elsewhere(settings, wanted):
    tunnel = only(listen=["127.0.1.2:443", "unix:/run/w"], port=443, **settings)
    assert wants_name(tunnel) is wanted
