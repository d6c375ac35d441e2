"""Hostile answers of AWS, or of an impostor, to a daemon (faults A2, A10, A12).

Each odd answer is another tunnel's, by a number that its requests carry; a good tunnel
of the same daemon answers all the time.
"""

import asyncio
import json
import re
import sys

from tests.aws.stub import GRANT
from tests.hostile.scene import beside
from tests.integration.world import tunnel
from tests.support.canary import leaks
from tests.support.odd_server import OddServer

CANARY = "canary/" + "Xy7+" * 12
DEEP = "[" * 20_000
NESTED = '{"a":' * 5000
SURROGATE = json.dumps({"__type": "Odd\ud800", "message": "\ud800\x1b[2J\u202e" * 90})

STARTS = {
    "null": (200, "null"),
    "a list": (200, "[]"),
    "a number": (200, "5"),
    "nothing": (200, ""),
    "deep": (200, DEEP),
    "nested": (200, NESTED),
    "no JSON": (200, "<html>please log in</html>"),
    "numbers for texts": (200, json.dumps(dict.fromkeys(GRANT, 5))),
    "lists for texts": (200, json.dumps({key: [None] for key in GRANT})),
    "controls in an id": (200, json.dumps(GRANT | {"SessionId": "a\r\nb\x1b"})),
    "an id of 100 KB": (200, json.dumps(GRANT | {"SessionId": "a" * 100_000})),
    "a URL of elsewhere": (200, json.dumps(GRANT | {"StreamUrl": "wss://evil.test/"})),
    "a URL with controls": (200, json.dumps(GRANT | {"StreamUrl": "ws://[\x00"})),
    "a refusal that is a list": (400, "[1]"),
    "a refusal of type 5": (400, '{"__type": 5}'),
    "a refusal of type null": (400, '{"__type": null, "message": {"a": []}}'),
    "a refusal with a surrogate": (400, SURROGATE),
    "a refusal that is deep": (400, DEEP),
    "a refusal of 900 KB": (403, json.dumps({"message": "x" * 900_000})),
    "an error page": (500, "<html>" + "x" * 9000),
    "no status": (999, "{}"),
    "a redirection": (302, ""),
}
QUERIES = {
    "a": (200, "<a/>"),
    "deep": (200, "<a>" * 3000 + "</a>" * 3000),
    "a doctype": (200, '<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>'),
    "cut": (200, "<DescribeInstancesResponse><reservationSet><it"),
    "JSON": (200, "null"),
    "nothing": (200, ""),
    "a refusal": (400, "<Response><Errors><Error/></Errors></Response>"),
}
TASKS = {
    "null": (200, '{"tasks": [null], "taskArns": ["a"]}'),
    "numbers": (200, '{"tasks": 5, "taskArns": [5]}'),
    "a list": (200, "[]"),
    "texts": (200, '{"tasks": ["a"], "taskArns": "a"}'),
    "deep": (200, '{"taskArns": ' + DEEP),
    "a refusal": (400, '{"__type": []}'),
}
ANSWERS = [*STARTS.values(), *QUERIES.values(), *TASKS.values(), *QUERIES.values()]
_NUMBER = re.compile(rb"(?:i-0{12}|odd)(\d{3,5})(?!\d)")


def request_of(connection):
    """Read a request with its body."""
    received = b""
    while True:
        some = connection.recv(65536)
        received += some
        head, end, body = received.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
        if not some or (end and len(body) >= (int(length[1]) if length else 0)):
            return received


def number_in(request):
    """Return the number of the tunnel that a request is for."""
    found = _NUMBER.search(request)
    return int(found[1]) if found else None


def answering(connection, _over):
    """Answer a request with what its number stands for."""
    number = number_in(request_of(connection))
    status, body = (200, "{}") if number is None else ANSWERS[number]
    data = body.encode("utf-8", "surrogatepass")
    head = f"HTTP/1.1 {status} Odd\r\nContent-Type: application/json\r\n"
    head += f"Connection: close\r\nContent-Length: {len(data)}\r\n\r\n"
    connection.sendall(head.encode() + data)


PRINTED = {
    "number": '{"Version": 1, "AccessKeyId": 5, "SecretAccessKey": "SECRET"}',
    "numbers": '{"Version": 1, "AccessKeyId": 5, "SecretAccessKey": 6}',
    "list": '["SECRET"]',
    "null": "null",
    "version": '{"Version": "SECRET"}',
    "deep": DEEP,
    "expiry": (
        '{"Version": 1, "AccessKeyId": "AKIA", "SecretAccessKey": "SECRET", '
        '"Expiration": 5}'
    ),
    "carriage-return": (
        '{"Version": 1, "AccessKeyId": "AKIA", "SecretAccessKey": "SECRET", '
        '"SessionToken": "SECRET\\r\\nX: y"}'
    ),
    "binary": "\ud800\x00\x1b",
    "words": "error: SECRET is not accepted",
}


def profiles(folder):
    """Write a profile for each odd output of a ``credential_process``."""
    text = ""
    for number, (name, printed) in enumerate(PRINTED.items()):
        path = folder / f"printed{number}"
        data = printed.replace("SECRET", CANARY)
        path.write_bytes(data.encode("utf-8", "surrogatepass"))
        text += f"[profile {name}]\n"
        text += f"credential_process = {sys.executable} -c "
        text += f"\"print(open('{path}', errors='surrogateescape').read())\"\n"
    text += "[profile endless]\n"
    text += f"credential_process = {sys.executable} -c "
    text += "\"while True: print('x' * 65536)\"\n"
    return text


def is_told(name):
    """Return what says whether a document has a reason for every bad tunnel."""

    def wanted(document):
        bad = [m for m in document["tunnels"] if m["name"].startswith(name)]
        assert bad
        return all(m["reason"] for m in bad)

    return wanted


async def test_odd_answers_hurt_their_own_tunnels_only(tmp_path):
    with OddServer(answering) as service:
        kinds = [*["i-{:017}"] * len(STARTS), *["name:odd{:03}"] * len(QUERIES)]
        kinds += ["ecs:odd{:03}/service"] * len(TASKS)
        tables = [
            tunnel(f"bad{n}", target=kind.format(n), port=1, endpoint_url=service.url)
            for n, kind in enumerate(kinds)
        ]
        environ = {
            f"AWS_ENDPOINT_URL_{name}": service.url
            for name in ("EC2", "ECS", "AUTO_SCALING")
        }
        async with beside(tmp_path, *tables, environ=environ) as found:
            await all_are_refused(found)


async def test_odd_credentials_hurt_their_own_tunnels_only(tmp_path):
    """Those of programs, and those that STS answers with."""
    (tmp_path / "aws-config").write_text(profiles(tmp_path))
    with OddServer(answering) as service:
        common = {"port": 1, "endpoint_url": service.url}
        tables = [
            tunnel(f"bad-{name}", profile=name, **common)
            for name in (*PRINTED, "endless")
        ]
        first = len(ANSWERS) - len(QUERIES)
        for number in range(first, len(ANSWERS)):
            role = f"arn:aws:iam::123456789012:role/odd{number:03}"
            tables.append(tunnel(f"bad{number}", role_arn=role, **common))
        environ = {"AWS_ENDPOINT_URL_STS": service.url}
        async with beside(tmp_path, *tables, environ=environ) as found:
            await all_are_refused(found)


async def all_are_refused(found):
    """Wait until every bad tunnel has said why it does not work."""
    document = await found.document(is_told("bad"))
    found.check(await found.status())
    for text in [*found.program.log().splitlines(), json.dumps(document)]:
        assert leaks(text, CANARY) == [], text
    states = {m["name"]: m["state"] for m in document["tunnels"]}
    assert states.pop("good") == "ready"
    assert not {"ready", "idle", "starting"} & set(states.values()), states
    assert [m["defects"] for m in document["tunnels"] if m["defects"]] == []


# A service, or a proxy, that never comes to an end.
TRICKLE = 0.02
FLOODS = {
    "a body that trickles": (b"HTTP/1.1 200 OK\r\nContent-Length: 400\r\n\r\n", b"x"),
    "a body of 400 MB": (
        b"HTTP/1.1 200 OK\r\nContent-Length: 400000000\r\n\r\n",
        b"x" * 65536,
    ),
    "chunks without end": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"1000\r\n" + b"x" * 4096 + b"\r\n",
    ),
    "chunks of one byte": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"1\r\nx\r\n" * 4096,
    ),
    "interim answers": (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 500),
    "headers": (b"HTTP/1.1 200 OK\r\n", b"A: b\r\n" * 5000),
    "one header": (b"HTTP/1.1 200 OK\r\nA: ", b"b" * 65536),
    "a status line": (b"HTTP/1.1 200 ", b"x" * 65536),
    "HTTP/2": (b"\x00\x00\x12\x04\x00\x00\x00\x00\x00" + bytes(18), bytes(4096)),
    "zeros": (b"", bytes(65536)),
    "SSH": (b"SSH-2.0-OpenSSH_9.6\r\n", b"\r\n" * 500),
}


def flooding(connection, over):
    """Answer with the flood that a request's number stands for, until it is left."""
    number = number_in(request_of(connection))
    name = list(FLOODS)[number or 0]
    start, piece = FLOODS[name]
    connection.sendall(start)
    while not over.is_set():
        connection.sendall(piece)
        if len(piece) == 1 and over.wait(TRICKLE):
            return


async def left(service, count):
    """Wait until as many connections to a service are over."""
    for _ in range(count):
        assert await asyncio.to_thread(service.finished.acquire, timeout=200)


async def test_answers_without_end_hurt_their_own_tunnels_only(tmp_path):
    with OddServer(flooding) as service:
        tables = [
            tunnel(f"bad{n}", target=f"i-{n:017}", port=1, endpoint_url=service.url)
            for n in range(len(FLOODS))
        ]
        async with beside(tmp_path, *tables) as found:
            await found.document(is_told("bad"))
            await left(service, 2 * len(FLOODS))
            found.check(await found.status())


async def test_a_proxys_answers_to_connect_hurt_their_own_tunnels_only(tmp_path):
    with OddServer(flooding) as proxy:
        tables = [
            tunnel(
                f"bad{n}",
                target=f"i-{n:017}",
                port=1,
                endpoint_url=f"https://odd{n:03}.example.com",
            )
            for n in range(len(FLOODS))
        ]
        environ = {
            "HTTPS_PROXY": f"http://me:{CANARY[7:20]}@127.0.0.1:{proxy.port}",
            "NO_PROXY": "127.0.0.1",
        }
        async with beside(tmp_path, *tables, environ=environ) as found:
            await found.document(is_told("bad"))
            await left(proxy, 2 * len(FLOODS))
            found.check(await found.status())
            assert leaks(found.program.log(), CANARY[7:20]) == []
