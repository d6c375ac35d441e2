"""docs/metrics.md: the metrics of a daemon whose file is that of the page."""

import re

from tests.integration.world import tunnel
from tests.support.ports import free_port
from tests.support.promtool import check_metrics
from tests.typed.page import plays

PAGE = "docs/metrics.md"


@plays(PAGE)
def test_promtool_reads_what_the_daemon_of_the_page_serves(
    script, on_stage, http_server
):
    local, web = free_port(), free_port()
    replaced = {"127.0.0.1:9300": f"127.0.0.1:{web}"}
    own = tunnel("orders-db", listen=f"127.0.0.1:{local}", port=http_server.port)
    with on_stage(replaced) as (_, stage):
        stage.write(script.block() + own)
        with stage.daemon():
            assert stage.is_served(local)
            done = stage.run(f"curl -sf http://127.0.0.1:{web}/metrics")
        check_metrics(done.stdout)
        assert "\nssmtunneld_ready 1.0\n" in done.stdout
        listed = set(re.findall(r"\n\| `(ssmtunneld_\w+)`", script.page.text))
        served = set(re.findall(r"\n# TYPE (ssmtunneld_\w+)", done.stdout))
        assert served <= listed
