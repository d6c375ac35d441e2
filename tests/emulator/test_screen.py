"""Web pages cannot command the emulator, whatever path they try."""

import aiohttp
import pytest

from ssmtunneld.emulator.screen import own_names
from ssmtunneld.emulator.settings import EmulatorSettings
from tests.emulator.reference import connected, start

PATHS = [
    ("POST", "/"),
    ("GET", "/v1/data-channel/x"),
    ("GET", "/_emulator/state"),
    ("PUT", "/_emulator/faults"),
    ("POST", "/_emulator/sessions/x/cut"),
    ("GET", "/_emulator/keys/i-0123456789abcdef0/root"),
    ("GET", "/nothing"),
]


async def answer(emulator, method, path, **headers):
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    # A request that asks for a websocket has no body.
    data = None if "Upgrade" in names else b"{}"
    async with (
        aiohttp.ClientSession() as http,
        http.request(
            method, emulator.endpoint_url + path, headers=names, data=data
        ) as response,
    ):
        return response.status


@pytest.mark.parametrize(("method", "path"), PATHS)
async def test_a_request_of_a_foreign_page_is_refused(emulate, method, path):
    emulator = await emulate()
    assert await answer(emulator, method, path, Host="evil.example") == 421
    assert await answer(emulator, method, path, Origin="http://evil.example") == 403
    assert await answer(emulator, method, path, Origin="null") == 403
    assert await answer(emulator, method, path, Sec_Fetch_Site="cross-site") == 403
    assert await answer(emulator, method, path) not in (403, 421)


async def test_a_page_starts_no_session_and_opens_no_channel(emulate):
    emulator = await emulate()
    target = "AmazonSSM.StartSession"
    foreign = "http://evil.example"
    assert await answer(emulator, "POST", "/", Origin=foreign, X_Amz_Target=target)
    assert emulator.state()["sessions"] == []
    grant = await start(emulator.endpoint_url, 80)
    path = grant["StreamUrl"].partition("/v1/")[2]
    headers = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec_WebSocket_Version": "13",
        "Sec_WebSocket_Key": "AAAAAAAAAAAAAAAAAAAAAA==",
    }
    status = await answer(emulator, "GET", f"/v1/{path}", **headers, Origin=foreign)
    assert status == 403


@pytest.mark.parametrize(
    "host",
    [
        "localhost:80",
        "127.0.0.1",
        "ssm.eu-west-1.amazonaws.com",
        "ssmmessages.eu-west-1.amazonaws.com",
        "vpce-0a1b-ssmmessages.eu-west-1.vpce.amazonaws.com",
        "ssm-fips.us-east-1.amazonaws.com",
        "ssm.cn-north-1.amazonaws.com.cn",
        "ec2.eu-west-1.amazonaws.com",
        "emulator:4566",
        "Orders.Internal",
        "stream.example",
    ],
)
async def test_names_that_the_operator_gave_are_served(emulate, host):
    emulator = await emulate(
        http_hosts=("emulator",),
        host_aliases={"orders.internal": "127.0.0.1"},
        stream_endpoint="wss://stream.example:1",
    )
    assert await answer(emulator, "GET", "/_emulator/state", Host=host) == 200


@pytest.mark.parametrize(
    "host",
    [
        "bucket.s3.amazonaws.com",
        "ec2-1-2-3-4.compute.amazonaws.com",
        "ssm.evil.example",
        "ssm.eu-west-1.amazonaws.com.evil.example",
        "stream.example",
        "",
    ],
)
async def test_other_names_are_not(emulate, host):
    emulator = await emulate()
    assert await answer(emulator, "GET", "/_emulator/state", Host=host) == 421


def test_the_hosts_file_gives_names_too(tmp_path):
    path = tmp_path / "hosts"
    path.write_text(
        "127.0.0.1 localhost mybox # comment evil\n"
        "::1 six\n\n# 127.0.0.1 no\n10.0.0.1 other\n127.0.0.1\nnonsense here\n"
    )
    assert own_names(EmulatorSettings(), path) == {"localhost", "mybox", "six"}
    assert own_names(EmulatorSettings(), tmp_path / "none") == frozenset()


async def test_a_client_of_the_data_channel_is_not_disturbed(emulate):
    emulator = await emulate()
    async with connected(emulator.endpoint_url, 80) as client:
        assert client.ready
