"""Commands of the pages that no test of this room types, and why."""

_INDEX = "needs a package index"
_SERVICE = "needs a service manager: tests/cli/commands/test_service.py has a stand-in"
_LOGIN = "needs a browser or a person's code: tests/integration/test_login*.py"
_NO_SERVER = "no package has its server, as the page says"

ELSEWHERE = {
    "README.md": {
        "pipx install .": f"{_INDEX}: tests/packaging/test_wheel.py",
        "python3 -m venv .venv && .venv/bin/pip install . && "
        ".venv/bin/ssmtunneld demo": f"{_INDEX}: tests/test_demo.py has the demo",
        "sh tests/run": "runs these very tests",
    },
    "docs/tasks/team.md": {
        "ssmtunneld service install -c tunnels.toml": _SERVICE,
    },
    "docs/guide.md": {
        "ssmtunneld service install": _SERVICE,
        "ssmtunneld service status": _SERVICE,
        'sudo "$(command -v ssmtunneld)" service install --system': _SERVICE,
        "ssmtunneld service uninstall": _SERVICE,
    },
    "docs/commands.md": {
        "ssmtunneld connect wiki": (
            "needs a browser: tests/interop/test_interop_connect.py"
        ),
        "pipx inject ssmtunneld textual": _INDEX,
        "ssmtunneld login orders-db": _LOGIN,
        "pass otp aws | ssmtunneld login orders-db --code-stdin": _LOGIN,
        "ssmtunneld login --profile prod": _LOGIN,
    },
    "docs/databases.md": {
        "kafka-console-consumer.sh --bootstrap-server "
        "b-1.orders.abc.c2.kafka.eu-west-1.amazonaws.com:9092 --topic orders": (
            _NO_SERVER
        ),
        "kcat -b b-1.orders.abc.c2.kafka.eu-west-1.amazonaws.com:9092 -L": _NO_SERVER,
        "ssmtunneld connect docs": _NO_SERVER,
        'mongosh "mongodb://app@127.0.1.41:27017/?directConnection=true&tls=true'
        "&tlsCAFile=global-bundle.pem&tlsAllowInvalidHostnames=true"
        '&retryWrites=false"': _NO_SERVER,
        "ssmtunneld connect sales": _NO_SERVER,
        "sqlcmd -S tcp:127.0.1.51,1433 -U app -d sales -N "
        "-F sales.abc.eu-west-1.rds.amazonaws.com": _NO_SERVER,
        "sqlplus app@//127.0.1.61:1521/LEDGER": _NO_SERVER,
        "sqlplus 'app@tcps://ledger.abc.eu-west-1.rds.amazonaws.com:2484/LEDGER"
        "?https_proxy=localhost&https_proxy_port=1081'": _NO_SERVER,
    },
}
"""By page: lines as they stand there but for their comments, each with its reason."""
