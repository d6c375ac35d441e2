"""Every source of credentials times every output times every spelling: nothing is told.

Each source makes its secret known by the code that it really comes through; each output
is then given text that quotes it, as an unforeseen library or service would.
"""

import asyncio
import base64
import hashlib
import html
import io
import json
import os
import random
import socket
import string
import sys
from contextlib import contextmanager
from dataclasses import asdict
from urllib.parse import quote

import pytest
from botocore.credentials import (
    Credentials,
    DeferredRefreshableCredentials,
    ReadOnlyCredentials,
    SSOProvider,
)

from ssmtunneld.aws.api.errors import _presentable
from ssmtunneld.aws.api.port import Grant
from ssmtunneld.aws.api.proxies import parse_proxy
from ssmtunneld.aws.identity.credentials import CredentialSource, read_keys
from ssmtunneld.base import redaction
from ssmtunneld.base.log import get_log
from ssmtunneld.base.redaction import register_environment
from ssmtunneld.base.secret import Secret
from ssmtunneld.cli.main import main
from ssmtunneld.doctor.report import Finding, Verdict
from ssmtunneld.errors import ChannelClosed
from ssmtunneld.observe import health, hook, logs
from ssmtunneld.observe.metrics import Metrics
from ssmtunneld.observe.status import daemon_status
from ssmtunneld.protocol.payloads import OpenDataChannel
from ssmtunneld.serve.systemd import Notifier
from tests.aws.stub import Reply, Stub
from tests.observe.test_status import status
from tests.support.canary import leaks

_ALPHABET = string.ascii_letters + string.digits + "+/"


def canary(source):
    """Return a secret of this source alone, in the alphabet of AWS's."""
    return "".join(random.Random(source).choices(_ALPHABET, k=64))


@pytest.fixture(autouse=True, scope="module")
def _redaction():
    """Remember for all tests here: a source tells its secret once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(redaction, "_process", redaction.Redactor())
        yield


# Sources.


def _environment(value, _):
    register_environment({"AWS_SESSION_TOKEN": value})


def _proxy_variable(value, _):
    register_environment({"HTTPS_PROXY": f"http://me:{quote(value, safe='')}@proxy:1"})


def _proxy(value, _):
    parse_proxy(f"http://me:{quote(value, safe='')}@proxy:1")


def _session(folder, monkeypatch, text):
    """Return botocore's session for a profile that says ``text``."""
    from botocore.session import Session

    path = folder / "aws"
    path.write_text(f"[profile canary]\nregion = eu-west-1\n{text}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(path))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    return Session(profile="canary")


def _shared_file(value, folder):
    with pytest.MonkeyPatch.context() as patch:
        text = f"aws_access_key_id = AKIA\naws_secret_access_key = {value}"
        session = _session(folder, patch, text)
        read_keys(session.get_credentials)


def _credential_process(value, folder):
    printed = folder / "printed.json"
    keys = {"Version": 1, "AccessKeyId": "AKIA", "SecretAccessKey": value}
    printed.write_text(json.dumps(keys))
    with pytest.MonkeyPatch.context() as patch:
        session = _session(folder, patch, f"credential_process = cat {printed}")
        read_keys(session.get_credentials)


def _fetched(value, _):
    """Make credentials that botocore fetches on demand and hands out frozen."""
    expiry = "2100-01-01T00:00:00Z"
    keys = {"access_key": "A", "secret_key": "s" * 40, "token": value}
    fetch = {**keys, "expiry_time": expiry}
    read_keys(lambda: DeferredRefreshableCredentials(lambda: fetch, "sso"))


# The services that credentials really come from, each asked as a daemon asks it.


@contextmanager
def _services(folder):
    """Yield what stands for all of them, and what sets the environment to it."""
    stub = Stub()
    with pytest.MonkeyPatch.context() as patch:
        for name in os.environ:
            if name.startswith("AWS_"):
                patch.delenv(name)
        variables = {
            "HOME": folder,
            "NO_PROXY": "*",
            "AWS_CONFIG_FILE": folder / "aws",
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_ENDPOINT_URL_STS": stub.url,
            "AWS_ENDPOINT_URL_SSO": stub.url,
        }
        for name, text in variables.items():
            patch.setenv(name, str(text))
        # botocore has chosen its place when it was imported.
        patch.setattr(SSOProvider, "_SSO_TOKEN_CACHE_DIR", str(folder / "sso"))
        try:
            yield stub, patch
        finally:
            stub.close()


def _keys_of(folder, text=""):
    (folder / "aws").write_text(text)
    profile = "canary" if text else None
    return CredentialSource(profile, "eu-west-1").keys()


def _answer(value, token):
    return {
        "Code": "Success",
        "AccessKeyId": "ASIACANARY0000000000",
        "SecretAccessKey": "s" * 40,
        token: value,
        "Expiration": "2100-01-01T00:00:00Z",
    }


def _container(value, folder):
    with _services(folder) as (stub, patch):
        patch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{stub.url}/keys")
        stub.answer("GET /keys", _answer(value, "Token"))
        assert _keys_of(folder).session_token.reveal() == value


def _authorization(value, folder):
    """The token with which a container asks."""
    with _services(folder) as (stub, patch):
        patch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{stub.url}/keys")
        patch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", value)
        register_environment(os.environ)
        stub.answer("GET /keys", _answer("t" * 40, "Token"))
        assert _keys_of(folder)
        assert stub.asked[0].headers["authorization"] == value


def _instance(value, folder):
    roles = "GET /latest/meta-data/iam/security-credentials/"
    with _services(folder) as (stub, patch):
        patch.delenv("AWS_EC2_METADATA_DISABLED")
        patch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", stub.url)
        stub.answer("PUT /latest/api/token", Reply(body="imds-token"))
        stub.answer(roles, Reply(body="role"))
        stub.answer(f"{roles}role", _answer(value, "Token"))
        assert _keys_of(folder).session_token.reveal() == value


def _role(value, folder):
    fields = _answer(value, "SessionToken")
    del fields["Code"]
    inner = "".join(f"<{name}>{text}</{name}>" for name, text in fields.items())
    body = (
        "<AssumeRoleResponse><AssumeRoleResult><Credentials>"
        f"{inner}</Credentials></AssumeRoleResult></AssumeRoleResponse>"
    )
    with _services(folder) as (stub, _):
        stub.answer("AssumeRole", Reply(body=body))
        keys = _keys_of(
            folder,
            "[profile base]\naws_access_key_id = AKIA\naws_secret_access_key = k\n"
            "[profile canary]\nsource_profile = base\n"
            "role_arn = arn:aws:iam::123456789012:role/canary\n",
        )
        assert keys.session_token.reveal() == value


def _sign_in(folder, token):
    """Put what ``aws sso login`` leaves into its cache; return the profile."""
    start = "https://start.example/canary"
    name = hashlib.sha1(start.encode(), usedforsecurity=False).hexdigest()
    cache = folder / "sso"
    cache.mkdir(exist_ok=True)
    login = {"accessToken": token, "expiresAt": "2100-01-01T00:00:00Z"}
    (cache / f"{name}.json").write_text(json.dumps(login))
    return (
        "[profile canary]\nsso_account_id = 111122223333\nsso_role_name = Admin\n"
        f"sso_region = eu-west-1\nsso_start_url = {start}\n"
    )


def _granted(value):
    keys = {
        "accessKeyId": "ASIACANARY0000000000",
        "secretAccessKey": "s" * 40,
        "sessionToken": value,
        "expiration": 4_102_444_800_000,
    }
    return {"roleCredentials": keys}


def _sso(value, folder):
    with _services(folder) as (stub, _):
        profile = _sign_in(folder, "login-token-" + "l" * 30)
        stub.answer("GET /federation/credentials", _granted(value))
        assert _keys_of(folder, profile).session_token.reveal() == value


def _sso_login(value, folder):
    """The token with which SSO is asked."""
    with _services(folder) as (stub, _):
        profile = _sign_in(folder, value)
        stub.answer("GET /federation/credentials", _granted("t" * 40))
        assert _keys_of(folder, profile)
        assert stub.asked[0].headers["x-amz-sso_bearer_token"] == value


def _frozen(value, _):
    read_keys(lambda: Credentials("AKIA", value, None))


def _grant(value, _):
    Grant("s-1", Secret(value), "wss://ssmmessages.eu-west-1.amazonaws.com/")


def _opener(value, _):
    document = {
        "MessageSchemaVersion": "1.0",
        "RequestId": "r",
        "TokenValue": value,
        "ClientId": "c",
        "ClientVersion": "1",
    }
    OpenDataChannel.parse(json.dumps(document))


SOURCES = {
    "environment": _environment,
    "variable of a proxy": _proxy_variable,
    "proxy": _proxy,
    "shared file": _shared_file,
    "credential_process": _credential_process,
    "fetched": _fetched,
    "container": _container,
    "token of a container": _authorization,
    "instance": _instance,
    "role": _role,
    "SSO": _sso,
    "login of SSO": _sso_login,
    "keys": _frozen,
    "StartSession": _grant,
    "first message of a channel": _opener,
}

_known = set()

# Spellings.

SPELLINGS = {
    "plain": lambda v: v,
    "cut": lambda v: v[:20],
    "piece": lambda v: v[17:30],
    "percent": lambda v: quote(v, safe=""),
    "percent in part": lambda v: v.replace("+", "%2b"),
    "repr": lambda v: repr(f"{v}\r"),
    "JSON": json.dumps,
    "HTML": html.escape,
    "base64": lambda v: base64.b64encode(v.encode()).decode(),
    "basic": lambda v: base64.b64encode(f"me:{v}".encode()).decode(),
    "urlsafe": lambda v: base64.urlsafe_b64encode(b"xy" + v.encode()).decode(),
    "hex": lambda v: v.encode().hex(),
}

# Outputs: each returns what somebody outside could read.


def _logged(form, environ=None):
    def output(text, _):
        stream = io.StringIO()
        logs.configure("debug", form, stream=stream, environ=environ or {})
        get_log(tunnel=text).warning("a.b", reason=text, many=[text], other=Odd(text))
        get_log().debug(text)
        return stream.getvalue()

    return output


class Odd:
    """An object that shows what it is made of."""

    def __init__(self, text):
        self._text = text

    def __repr__(self):
        return f"<Odd {self._text}>"


def _recent(text, _):
    logs.recent.clear()
    _logged("json")(text, _)
    events = [asdict(event) for event in logs.recent.since()]
    logs.recent.clear()
    return json.dumps(events)


def _tunnel(text):
    return status(trouble=ChannelClosed(text))


def _document(text, _):
    found = daemon_status(pid=1, config=text, uptime=1.0, tunnels=(_tunnel(text),))
    return json.dumps(found.as_document())


def _ready(text, _):
    found = daemon_status(pid=1, config="", uptime=1.0, tunnels=(_tunnel(text),))
    check = health.readiness(found)
    return check.text(verbose=True) + json.dumps(check.as_document())


def _metrics(text, _):
    found = daemon_status(pid=1, config="", uptime=1.0, tunnels=(_tunnel(text),))
    return Metrics().render(found)[0].decode()


def _hook(text, _):
    return repr(hook._facts(_tunnel(text)))


def _notified(text, folder):
    path = folder / "notify"
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(str(path))
        notifier = Notifier(str(path))
        notifier.ready(f"1 tunnels, 0 ready; db: {text}")
        notifier.close()
        return heard.recv(65536).decode()


def _refusal(text, _):
    return _presentable(f"The signature {text} is not the expected one.", ())


def _doctor(text, _):
    finding = Finding("identity", Verdict.FAIL, text, f"correct {text}")
    return finding.told + json.dumps(asdict(finding))


def _command(text, folder):
    """A command that fails over a file whose name is in its error."""
    written = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stderr", written)
        patch.setattr(sys, "stdout", io.StringIO())
        # A name has no slashes; and the shell's quotes do not matter here.
        path = folder / text.replace("/", "%2F")[:200]
        with pytest.raises(SystemExit):
            main(["pause", "db", "--config", str(path)])
        path.write_text(f'[tunnels."a b"]\n"{quote(text)}" = 1\n')
        with pytest.raises(SystemExit):
            main(["run", "--config", str(path)])
    return written.getvalue()


OUTPUTS = {
    "log as text": _logged("text"),
    "log as JSON": _logged("json"),
    "log for the journal": _logged("auto", {"JOURNAL_STREAM": "8:1"}),
    "recent events": _recent,
    "status": _document,
    "readiness": _ready,
    "metrics": _metrics,
    "hook": _hook,
    "service manager": _notified,
    "refusal": _refusal,
    "doctor": _doctor,
    "command line": _command,
}


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("source", SOURCES)
def test_no_output_has_the_secret_of_any_source(source, output, tmp_path):
    value = canary(source)
    if source not in _known:  # a service takes a while, and a process forgets nothing
        SOURCES[source](value, tmp_path)
        _known.add(source)
    for name, spell in SPELLINGS.items():
        shown = OUTPUTS[output](f"it says {spell(value)} here", tmp_path)
        assert shown, f"{name}: an empty output proves nothing"
        assert leaks(shown, value) == [], name
        assert spell(value)[:12] not in shown.replace("***", ""), name


@pytest.mark.parametrize("output", OUTPUTS)
def test_each_output_would_tell_what_nobody_has_registered(output, tmp_path):
    """That the test above looks at what it should."""
    shown = OUTPUTS[output](f"it says Unknown-{output[:3]}-9 here", tmp_path)
    told = f"Unknown-{output[:3]}-9" in shown
    assert told is (output != "metrics")


def test_log_lines_are_json_whatever_is_redacted_in_them():
    value = canary("json")
    Secret(value)
    for spell in SPELLINGS.values():
        text = f'"\n{spell(value)}\\n{spell(value)}n'
        for line in _logged("json")(text, None).splitlines():
            assert json.loads(line)["level"] in {"warning", "debug"}


async def test_what_threads_say_is_redacted_too():
    value = canary("threads")
    Secret(value)
    found = await asyncio.gather(
        *(asyncio.to_thread(_document, f"{value} {n}", None) for n in range(8))
    )
    assert [text for text in found if leaks(text, value)] == []


def test_read_only_keys_are_handed_out_as_they_are():
    keys = read_keys(lambda: Credentials("AKIA", "Qx9-" * 10, None))
    assert keys == ReadOnlyCredentials("AKIA", "Qx9-" * 10, None)
