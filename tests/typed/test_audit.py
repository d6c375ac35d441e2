"""docs/audit.md, typed."""

import json

from jsonschema import Draft202012Validator

from tests.integration.world import tunnel
from tests.interop.conftest import _need
from tests.support.ports import free_port
from tests.typed.page import plays
from tests.typed.stage import ME

PAGE = "docs/audit.md"


@plays(PAGE, "The file")
def test_the_log_says_who_fetched_how_much(script, on_stage, home, http_server):
    _need("jq")
    local = free_port()
    replaced = {"/var/lib/ssmtunneld/audit.jsonl": home / "audit.jsonl"}
    with on_stage(replaced) as (_, stage):
        own = tunnel("orders-db", listen=f"127.0.0.1:{local}", port=http_server.port)
        stage.write(script.page.block("") + own)
        with (
            stage.daemon(),
            http_server.answering_together(2) as crowd,
            stage.running(f"curl -sf http://127.0.0.1:{local}/1000/1 -o fetched") as it,
            stage.running("tail -n +1 -F audit.jsonl") as following,
        ):
            # Who leaves before anybody looks has no name.
            following.wait_for('"event": "opened"')
            crowd.wait()
            assert it.wait_for_end() == 0
        written = (stage.home / "audit.jsonl").read_text().splitlines()
        lines = [json.loads(line) for line in written]
        events = [line["event"] for line in lines]
        assert events == ["started", "opened", "ended", "stopped"]

        shown = script.page.block("", "json").splitlines()
        for example, line in zip(map(json.loads, shown), lines[1:3], strict=True):
            assert list(example) == list(line)
            for key, value in example.items():
                assert type(value) is type(line[key]), key
        schema = json.loads(stage.run(script.words("ssmtunneld schema --audit")).stdout)
        for line in lines:
            Draft202012Validator(schema).validate(line)

        done = stage.run(script.next("jq -r").text)
        user, program, name, received = done.stdout.strip().split("\t")
        assert (user, name) == (ME, "orders-db")
        assert program == "curl"
        assert int(received) == lines[2]["received"] > 1000
