"""Whole files: what is inherited, and what is said about what is wrong."""

import itertools
import json
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssmtunneld.config import TcpAddress, TunnelSettings, parse_config, tables
from ssmtunneld.config.sources import SourceFile, Sources
from ssmtunneld.errors import ConfigError

TARGET = 'target = "i-0182d91e"\n'
PORT = "choose another port or address"
KEY_ID = "AKIAIOSFODNN7EXAMPLE"
SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"


def parse(text, environ=None):
    return parse_config(text, "c.toml", environ or {})


def problems(text, environ=None):
    with pytest.raises(ConfigError) as caught:
        parse(text, environ)
    return caught.value.problems


def test_tunnels_keep_the_order_of_the_file_and_the_tables_names():
    config = parse(
        f"[tunnels.b]\nlisten = 1\nport = 1\n{TARGET}"
        f"[tunnels.a]\nlisten = 2\nport = 2\n{TARGET}"
        '[daemon]\nlog_level = "debug"\n'
    )
    assert [tunnel.name for tunnel in config.tunnels] == ["b", "a"]
    assert config.source == Path("c.toml")
    assert config.daemon.log_level == "debug"


def test_a_tunnel_inherits_what_it_does_not_say():
    config = parse(
        f"[defaults]\n{TARGET}warm = 2\nport = 1\n"
        "[tunnels.a]\nlisten = 1\n[tunnels.b]\nlisten = 2\nwarm = 0\nport = 2\n"
    )
    a, b = config.tunnels
    assert (a.warm, a.port, a.target) == (2, 1, "i-0182d91e")
    assert (b.warm, b.port, b.target) == (0, 2, "i-0182d91e")


def test_variables_are_replaced_in_tunnels_and_defaults():
    config = parse(
        '[defaults]\ntarget = "${T}"\nprofile = "${P}-x"\nregion = "eu-${R}-1"\n'
        '[tunnels.a]\nlisten = 1\nport = 1\nhost = "db.${H}"\n'
        'endpoint_url = "https://${H}"\nreason = "${P}"\n',
        {"T": "i-0182d91e", "P": "prod", "R": "west", "H": "example.com"},
    )
    (a,) = config.tunnels
    assert (a.target, a.profile, a.region) == ("i-0182d91e", "prod-x", "eu-west-1")
    assert (a.host, a.endpoint_url) == ("db.example.com", "https://example.com")
    assert a.reason == "${P}"


def test_a_tilde_means_the_home_of_the_environment():
    text = f'[tunnels.a]\nlisten = "unix:~/a"\nport = 1\n{TARGET}'
    (a,) = parse(text, {"HOME": "/home/eve"}).tunnels
    assert str(a.listen[0]) == "unix:/home/eve/a"
    assert problems(text) == [
        "c.toml:2: tunnels.a.listen: starts with ~, but HOME is not set"
    ]


def test_inherited_networks_do_not_bother_local_tunnels():
    config = parse(
        f'[defaults]\n{TARGET}port = 1\nallow = ["10.0.0.0/8"]\n'
        "[tunnels.a]\nlisten = 1\n"
        '[tunnels.b]\nlisten = ["127.0.0.1:2", "unix:/x"]\n'
        '[tunnels.c]\nlisten = ["127.0.0.1:3", "0.0.0.0:3000"]\n'
    )
    assert [len(tunnel.allow) for tunnel in config.tunnels] == [0, 0, 1]


def test_a_tunnel_s_own_networks_must_have_an_effect():
    text = f'[tunnels.a]\nlisten = 1\nport = 1\n{TARGET}allow = ["10.0.0.0/8"]\n'
    (problem,) = problems(text)
    assert problem.startswith("c.toml:5: tunnels.a.allow: has no effect")


def test_what_makes_no_sense_in_a_mode_is_not_inherited():
    config = parse(
        f'[defaults]\n{TARGET}port = 1\nwarm = 2\nprobe = "tcp"\n'
        'destinations = ["a:1"]\nmax_destinations = 3\n'
        "[tunnels.a]\nlisten = 1\n"
        '[tunnels.b]\nlisten = 2\nmode = "socks5"\n'
    )
    a, b = config.tunnels
    assert (a.port, a.warm, a.destinations, a.max_destinations) == (1, 2, (), 16)
    assert (b.port, b.warm, b.probe, b.max_destinations) == (None, 0, None, 3)
    assert [str(pattern) for pattern in b.destinations] == ["a:1"]


def test_a_destination_of_ones_own_is_not_mixed_with_an_inherited_one():
    config = parse(
        f'[defaults]\n{TARGET}port = 1\nhost = "db"\n'
        '[tunnels.a]\nlisten = 1\n[tunnels.b]\nlisten = 2\ncluster = "prod"\n'
    )
    a, b = config.tunnels
    assert (a.host, a.cluster) == ("db", None)
    assert (b.host, b.cluster, b.port) == (None, "prod", 1)
    config = parse(
        f'[defaults]\n{TARGET}cluster = "${{C}}"\n'
        '[tunnels.a]\nlisten = 1\nhost = "db"\nport = 1\n[tunnels.b]\nlisten = 2\n',
        {"C": "prod"},
    )
    a, b = config.tunnels
    assert (a.host, a.cluster) == ("db", None)
    assert (b.host, b.cluster, b.port) == (None, "prod", 443)


def test_a_pattern_that_is_wrong_is_named():
    (problem,) = problems(
        f'[tunnels.a]\nlisten = 1\nmode = "socks5"\n{TARGET}'
        'destinations = ["a:1", "b"]\n'
    )
    assert "tunnels.a.destinations[1]: is not a destination" in problem


def test_unknown_keys_come_with_the_nearest_valid_one():
    text = (
        'deamon = 1\n[daemon]\nlog_levl = "info"\n'
        "[defaults]\nlisten = 1\nzzz = 1\nname = 1\n"
        f"[tunnels.db]\nlisten = 1\nport = 1\nprot = 5432\n{TARGET}name = 'x'\n"
    )
    assert problems(text) == [
        "c.toml:1: deamon: unknown key (did you mean daemon?)",
        "c.toml:3: daemon.log_levl: unknown key (did you mean log_level?)",
        "c.toml:5: defaults.listen: unknown key (every tunnel has its own)",
        "c.toml:6: defaults.zzz: unknown key (see: ssmtunneld config example)",
        "c.toml:7: defaults.name: unknown key (every tunnel has its own)",
        "c.toml:11: tunnels.db.prot: unknown key (did you mean port?)",
        "c.toml:13: tunnels.db.name: unknown key (the table's name is the name)",
    ]


def test_lines_are_found_in_dotted_keys_and_inline_tables():
    text = (
        f"tunnels.a.listen = 1\ntunnels.a.port = 1\ntunnels.a.{TARGET}"
        "tunnels.a.wram = 1\n"
        'tunnels.b = { listen = 2, port = 2, target = "i-0182d91e", wram = 1 }\n'
    )
    assert problems(text) == [
        "c.toml:4: tunnels.a.wram: unknown key (did you mean warm?)",
        "c.toml:5: tunnels.b.wram: unknown key (did you mean warm?)",
    ]


def test_what_is_missing_is_on_the_line_of_its_table():
    assert problems("\n[tunnels.a]\nport = 1\n") == [
        "c.toml:2: tunnels.a.target: is required",
        "c.toml:2: tunnels.a.listen: is required",
    ]


def test_the_item_of_a_list_is_named():
    text = f'[tunnels.a]\nlisten = [\n 1,\n "x",\n]\nport = 1\n{TARGET}'
    (problem,) = problems(text)
    assert problem.startswith("c.toml:4: tunnels.a.listen[1]: is not an address")
    assert '"x"' not in problem


def test_parameters_are_named_to_the_key():
    text = f'[tunnels.a]\nlisten = 1\n{TARGET}document = "Custom"\n'
    text += "[tunnels.a.parameters]\n"
    (problem,) = problems(text + '"" = "x"\n')
    assert (
        problem == 'c.toml:6: tunnels.a.parameters."": should have at least 1 character'
    )
    (problem,) = problems(text + "a = ['x', 1]\n")
    assert problem == "c.toml:6: tunnels.a.parameters.a[1]: should be text, in quotes"


def test_a_bad_name_is_reported_for_the_table():
    text = f'[tunnels."My DB"]\nlisten = 1\nport = 1\n{TARGET}'
    (problem,) = problems(text)
    assert problem.startswith('c.toml:1: tunnels."My DB": is not a tunnel\'s name')


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "c.toml:1: has no tunnels: add a table [tunnels.NAME]"),
        ("\n[tunnels]\n", "c.toml:1: has no tunnels: add a table [tunnels.NAME]"),
        (
            "tunnels = 1",
            "c.toml:1: tunnels: should be tables with names, [tunnels.NAME]",
        ),
        (
            "\n[[tunnels]]\nlisten = 1\n",
            "c.toml:2: tunnels: should be tables with names, [tunnels.NAME]",
        ),
        ("tunnels.a = 1", "c.toml:1: tunnels.a: should be a table, [tunnels.NAME]"),
    ],
)
def test_a_file_has_tables_with_tunnels(text, expected):
    assert problems(text) == [expected]


@pytest.mark.parametrize("key", ["daemon", "defaults"])
def test_sections_are_tables(key):
    text = f"{key} = 1\n[tunnels.a]\nlisten = 1\nport = 1\n{TARGET}"
    assert problems(text) == [f"c.toml:1: {key}: should be a table, [{key}]"]


def test_what_is_wrong_in_the_defaults_is_said_once():
    text = (
        '[defaults]\ntarget = "nome:x"\nwarm = -1\nprofile = "${NOPE}"\n'
        "[tunnels.a]\nlisten = 1\n[tunnels.b]\nlisten = 2\nwarm = 9\nport = 0\n"
    )
    found = problems(text)
    assert [problem.split(": ")[:2] for problem in found] == [
        ["c.toml:2", "defaults.target"],
        ["c.toml:3", "defaults.warm"],
        ["c.toml:4", "defaults.profile"],
        ["c.toml:10", "tunnels.b.port"],
    ]


def test_a_variable_that_is_not_set_is_said_once():
    text = '[tunnels.a]\nlisten = 1\nport = 1\ntarget = "${NOPE}"\n'
    assert problems(text) == [
        "c.toml:4: tunnels.a.target: the environment variable NOPE is not set"
    ]


def test_conflicts_are_on_the_line_of_their_key():
    text = (
        f"[tunnels.a]\nlisten = 1\nport = 1\n{TARGET}warm = 9\nping_interval = '1m'\n"
    )
    assert problems(text) == [
        "c.toml:1: tunnels.a.dead_peer_timeout: should be above ping_interval (60 s)",
        "c.toml:5: tunnels.a.warm: is 9, above max_sessions (4)",
    ]


def test_choices_are_listed():
    text = f"[daemon]\nlog_level = 'loud'\n[tunnels.a]\nlisten = 1\nport = 1\n{TARGET}"
    assert problems(text) == [
        "c.toml:2: daemon.log_level: should be 'debug', 'info', 'warning' or 'error'"
    ]


@pytest.mark.parametrize(
    ("first", "second", "cure"),
    [
        ("1", '"127.0.0.1:1"', PORT),
        ('"localhost:1"', '"[::1]:1"', PORT),
        ('"localhost:1"', '"localhost:1"', PORT),
        ('"0.0.0.0:1"', "1", PORT),
        ('["[::1]:2", "[::1]:1"]', '"[::]:1"', PORT),
        ('"unix:/run/x"', '"unix:/run//x"', "choose another path"),
    ],
)
def test_two_tunnels_cannot_share_an_address(first, second, cure):
    text = (
        f'[defaults]\n{TARGET}port = 1\nallow = ["10.0.0.0/8"]\n'
        f"[tunnels.a]\nlisten = {first}\n[tunnels.b]\nlisten = {second}\n"
    )
    (problem,) = problems(text)
    assert problem.startswith("c.toml:8: tunnels.b.listen: ")
    assert " clashes with " in problem
    assert problem.endswith(f" of tunnels.a: {cure}")


def test_one_tunnel_cannot_have_an_address_twice():
    text = f'[tunnels.a]\nlisten = [1, "localhost:1"]\nport = 1\n{TARGET}'
    assert problems(text) == [
        "c.toml:2: tunnels.a.listen: localhost:1 clashes with localhost:1 of "
        "tunnels.a: choose another port or address"
    ]


def test_different_addresses_do_not_clash():
    config = parse(
        f'[defaults]\n{TARGET}port = 1\nallow = ["10.0.0.0/8"]\n'
        '[tunnels.a]\nlisten = [0, 0, "127.0.0.1:1", "[::]:2"]\n'
        '[tunnels.b]\nlisten = [0, "127.0.0.2:1", "[::1]:1", "127.0.0.1:2"]\n'
    )
    assert config.tunnels[1].listen[1] == TcpAddress("127.0.0.2", 1)


@pytest.mark.parametrize(
    "line",
    [
        f'aws_access_key_id = "{KEY_ID}"',
        f'aws_secret_access_key = "{SECRET}"',
        f'secret = "{SECRET}"',
        f'prot = "{KEY_ID}"',
        f'prot = {{ x = ["{KEY_ID}"] }}',
        f'AwsSessionToken = "{SECRET}"',
        f'{KEY_ID} = "{SECRET}"',
    ],
)
@pytest.mark.parametrize("table", ["", "[daemon]\n", "[defaults]\n", "[tunnels.a]\n"])
def test_credentials_under_unknown_keys_are_refused_and_not_repeated(table, line):
    text = f"{table}{line}\n"
    if table != "[tunnels.a]\n":
        text += "[tunnels.a]\n"
    text += f"listen = 1\nport = 1\n{TARGET}"
    (problem,) = problems(text)
    assert problem.endswith(
        "unknown key (credentials do not belong in this file: name a profile)"
    )
    assert KEY_ID not in problem
    assert SECRET not in problem


@pytest.mark.parametrize("key", ["profile", "listen", "idle_close", "target", "reason"])
def test_access_keys_under_known_keys_are_refused_and_not_repeated(key):
    table = {"listen": "1", "port": "1", "target": '"i-0182d91e"', key: f'"{KEY_ID}"'}
    text = "[tunnels.a]\n" + "".join(f"{k} = {v}\n" for k, v in table.items())
    (problem,) = problems(text)
    assert problem.endswith(
        f"tunnels.a.{key}: looks like an AWS access key "
        "(credentials do not belong in this file: name a profile)"
    )


_SETTINGS = [
    "listen", "target", "port", "host", "warm", "keep_alive", "allow", "zzz",
    "document", "parameters", "socket_mode", "profile", "ca_bundle", "secret",
    "endpoint_url", "max_session_age", "name", "drain_timeout", "log_level",
]  # fmt: skip
_VALUES = st.one_of(
    st.sampled_from(
        ["true", "false", "0", "-1", "5432", "1.5", "nan", "inf", "[]", "{}"]
    ),
    st.sampled_from(
        ["1979-05-27", "[1, 'x']", "[[1]]", "{ a = 'b' }", "'5m'", "'1MiB'"]
    ),
    st.sampled_from(
        ["'i-0182d91e'", "'localhost:1'", "'0.0.0.0:1'", "'unix:/x'", "'~'"]
    ),
    st.sampled_from(
        ["'${A}'", "'${B}'", "'Custom'", "['10.0.0.0/8']", "''", "'\\u0000'"]
    ),
    st.just(f"'{SECRET}'"),
)
_TABLES = st.sampled_from(
    ["[daemon]", "[defaults]", "[tunnels.a]", "[tunnels.b]", "[tunnels]", "[x.y]", "#"]
)


@given(
    st.lists(
        st.tuples(
            _TABLES, st.dictionaries(st.sampled_from(_SETTINGS), _VALUES, max_size=6)
        ),
        max_size=4,
        unique_by=lambda table: table[0],
    )
)
def test_any_file_gives_a_configuration_or_problems_with_lines(tables):
    text = "\n".join(
        itertools.chain.from_iterable(
            [header, *(f"{key} = {value}" for key, value in table.items())]
            for header, table in tables
        )
    )
    try:
        found = [] if parse(text, {"A": "a", "HOME": "/home/eve"}).tunnels else [""]
    except ConfigError as error:
        found = error.problems or [""]
    for problem in found:
        assert problem.startswith("c.toml:")
        assert SECRET not in problem
        assert "\n" not in problem


def test_a_default_key_for_ssh_is_for_tunnels_that_end_at_the_instance():
    text = """
[defaults]
target = "i-0182d91e85d69cf00"
instance_connect = true
instance_connect_user = "ubuntu"

[tunnels.ssh]
listen = 2222
port = 22

[tunnels.db]
listen = 5432
host = "db.internal"
port = 5432
"""
    ssh, db = parse_config(text, Path("c.toml"), {}).tunnels
    assert (ssh.instance_connect, ssh.instance_connect_user) == (True, "ubuntu")
    assert (db.instance_connect, db.instance_connect_user) == (False, None)


def test_an_address_of_the_http_listener_cannot_be_a_tunnel_s():
    text = (
        '[daemon]\nhttp_listen = ["127.0.0.1:9300", "[::1]:9300"]\n'
        f'[tunnels.a]\nlisten = ["localhost:9300"]\nport = 1\n{TARGET}'
    )
    assert problems(text) == [
        "c.toml:4: tunnels.a.listen: localhost:9300 clashes with 127.0.0.1:9300 "
        "of daemon.http_listen: choose another port or address",
        "c.toml:4: tunnels.a.listen: localhost:9300 clashes with [::1]:9300 "
        "of daemon.http_listen: choose another port or address",
    ]


def test_the_http_listener_cannot_have_an_address_twice():
    text = (
        '[daemon]\nhttp_listen = ["127.0.0.1:9300", 9300]\n'
        f"[tunnels.a]\nlisten = 1\nport = 1\n{TARGET}"
    )
    assert problems(text) == [
        "c.toml:2: daemon.http_listen: localhost:9300 clashes with 127.0.0.1:9300 "
        "of daemon.http_listen: choose another port or address",
    ]


def test_free_ports_of_the_http_listener_and_a_tunnel_do_not_clash():
    parse(f"[daemon]\nhttp_listen = 0\n[tunnels.a]\nlisten = 0\nport = 1\n{TARGET}")


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("local_port", "listen"),
        ("remote_port", "port"),
        ("remote_host", "host"),
        ("instance_id", "target"),
        ("user", "db_user"),
        ("database", "db_name"),
    ],
)
def test_names_of_other_programs_are_understood(wrong, right):
    text = f"[tunnels.a]\nlisten = 1\nport = 1\n{TARGET}{wrong} = 1\n"
    assert problems(text) == [
        f"c.toml:5: tunnels.a.{wrong}: unknown key (did you mean {right}?)"
    ]


def test_names_of_other_programs_are_none_of_ours():
    assert set(tables.SYNONYMS.values()) <= TunnelSettings.model_fields.keys()
    assert not tables.SYNONYMS.keys() & TunnelSettings.model_fields.keys()


def test_a_file_of_nothing_but_mistakes_is_told_in_part():
    keys = "".join(f"k{index} = 1\n" for index in range(50_000))
    found = problems(f"{keys}[tunnels.a]\nlisten = 1\nport = 1\n{TARGET}")
    assert found[0] == "c.toml:1: k0: unknown key (see: ssmtunneld config example)"
    assert found[100:] == ["c.toml: has 49900 more problems"]


def test_a_long_key_and_a_long_value_are_told_in_part():
    (problem,) = problems(
        f"{'k' * 5000} = 1\n[tunnels.a]\nlisten = 1\nport = 1\n{TARGET}"
    )
    assert len(problem) < 200
    (problem,) = problems(
        f'[tunnels.a]\nlisten = 1\nport = 1\ntarget = "tag:{"x" * 5000}"\n'
    )
    assert "is not a tag" in problem
    assert len(problem) < 400


# Several files.


def read(main, *others, environ=None):
    """Read texts as files a.toml, b.toml, ... that c.toml includes."""
    files = [
        SourceFile(Path(f"{name}.toml"), text, tomllib.loads(text))
        for name, text in zip("cab", (main, *others), strict=False)
    ]
    sources = Sources(files[0], tuple(files[1:]))
    return tables.read_source_tables(sources, environ or {})


def troubles(main, *others, environ=None):
    with pytest.raises(ConfigError) as caught:
        read(main, *others, environ=environ)
    return caught.value.problems


def one(name, listen, **settings):
    own = "".join(f"{key} = {json.dumps(value)}\n" for key, value in settings.items())
    return f"[tunnels.{name}]\nlisten = {listen}\nport = 1\n{own}"


def test_an_included_file_s_defaults_are_for_its_own_tunnels_and_above_the_main_ones():
    config = read(
        f"[defaults]\n{TARGET}warm = 2\nlinger = 1\n{one('main', 1)}",
        f"[defaults]\nwarm = 3\nregion = 'eu-west-1'\n{one('a', 2)}",
        f"{one('b', 3)}",
    )
    found = {t.name: (t.warm, t.linger, t.region) for t in config.tunnels}
    assert found == {
        "main": (2, 1.0, None),
        "a": (3, 1.0, "eu-west-1"),
        "b": (2, 1.0, None),
    }


def test_a_name_twice_is_an_error_with_both_places():
    main = f"[defaults]\n{TARGET}\n{one('db', 1)}"
    assert troubles(main, one("x", 2) + one("db", 3), one("x", 4)) == [
        "a.toml:4: tunnels.db: is a name that c.toml:4 has given: choose another",
        "b.toml:1: tunnels.x: is a name that a.toml:1 has given: choose another",
    ]


def test_addresses_clash_across_files():
    main = (
        f"[daemon]\nhttp_listen = 9\n[defaults]\n{TARGET}\n"
        f"{one('main', 1)}{one('own', 1)}"
    )
    assert troubles(main, one("a", 9), one("b", 1)) == [
        "c.toml:10: tunnels.own.listen: localhost:1 clashes with localhost:1 of "
        "tunnels.main: choose another port or address",
        "a.toml:2: tunnels.a.listen: localhost:9 clashes with localhost:9 of "
        "daemon.http_listen in c.toml: choose another port or address",
        "b.toml:2: tunnels.b.listen: localhost:1 clashes with localhost:1 of "
        "tunnels.main in c.toml: choose another port or address",
    ]


def test_a_disabled_tunnel_takes_no_address_and_is_checked_all_the_same():
    main = f"[defaults]\n{TARGET}\n{one('db', 1)}"
    config = read(main, one("old", 1, enabled=False))
    assert [tunnel.name for tunnel in config.tunnels] == ["db", "old"]
    assert [tunnel.name for tunnel in config.enabled] == ["db"]
    (problem,) = troubles(main, one("old", 1, enabled=False, region="x"))
    assert problem.startswith("a.toml:5: tunnels.old.region: is not a region")


def test_an_included_file_has_nothing_that_is_for_the_process():
    main = f"[defaults]\n{TARGET}\n{one('main', 1)}"
    other = (
        f"include = ['d.toml']\nextra = 1\n[daemon]\non_state = ['rm']\n{one('a', 2)}"
    )
    assert troubles(main, other) == [
        "a.toml:1: include: is for the main file only: name the files in c.toml",
        "a.toml:2: extra: unknown key (see: ssmtunneld config example)",
        "a.toml:3: daemon: is for the main file only, because it is about the "
        "process: c.toml",
    ]


def test_an_include_behind_a_table_is_told_where_it_belongs():
    text = (
        "[daemon]\ninclude = 'a'\n[defaults]\ninclude = 'a'\n"
        f"{TARGET}{one('main', 1)}include = 'a'\n"
    )
    words = "belongs to the top of the file, above all tables"
    assert troubles(text) == [
        f"c.toml:2: daemon.include: {words}",
        f"c.toml:4: defaults.include: {words}",
        f"c.toml:9: tunnels.main.include: {words}",
    ]


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("7", "include: should be text, in quotes"),
        ("[1, 'a']", "include[0]: should be text, in quotes"),
        ("['**']", "include[0]: cannot have **"),
        ("{}", "include: should be text, in quotes"),
    ],
)
def test_what_is_no_pattern_is_an_error_at_its_place(value, problem):
    (told,) = troubles(f"include = {value}\n")
    assert told.startswith(f"c.toml:1: {problem}")


def test_defaults_that_cannot_be_used_prove_nothing_about_tunnels_of_other_files():
    main = f"[defaults]\ntarget = '${{NONE}}'\n{one('main', 1)}"
    (problem,) = troubles(main, one("a", 2))
    assert problem.startswith("c.toml:2: defaults.target: ")
    other = f"[defaults]\nwarm = 'x'\nmax_sessions = 0\n{one('a', 2)}"
    assert [p.split(": ")[:2] for p in troubles(f"[defaults]\n{TARGET}", other)] == [
        ["a.toml:2", "defaults.warm"],
        ["a.toml:3", "defaults.max_sessions"],
    ]


def test_an_included_file_may_have_no_tunnels():
    assert len(read(f"[defaults]\n{TARGET}{one('main', 1)}", "# later\n").tunnels) == 1


def test_keys_of_aws_are_found_in_every_file_and_shown_of_none():
    main = f"[defaults]\n{TARGET}{one('main', 1)}"
    (problem,) = troubles(main, one("a", 2, profile=KEY_ID))
    assert problem.startswith("a.toml:4: tunnels.a.profile: looks like an AWS access")
    assert KEY_ID not in problem


def test_the_problems_of_all_files_are_as_many_as_a_person_reads():
    broken = "".join(one(f"t{n}", n + 1, x=1) for n in range(80))
    others = "".join(one(f"u{n}", n + 101, x=1) for n in range(80))
    found = troubles(f"[defaults]\n{TARGET}{broken}", others)
    assert len(found) == 101
    assert [found[79][:6], found[80][:6]] == ["c.toml", "a.toml"]
    assert found[-1] == "c.toml: has 60 more problems"


def test_groups_are_names_alone_or_in_a_list():
    text = (
        f"[defaults]\n{TARGET}groups = 'all'\n{one('a', 1)}"
        f"{one('b', 2, groups=['x', 'y-1'])}"
    )
    assert [tunnel.groups for tunnel in read(text).tunnels] == [("all",), ("x", "y-1")]
    (problem,) = troubles(text.replace("y-1", "Y 1"))
    assert "tunnels.b.groups[1]: is not a group's name: up to 63 of" in problem


def test_absolute_paths_do_not_depend_on_the_file_that_says_them():
    settings = {"ca_bundle": "a.pem", "region": "x", "instance_connect_key": "~/b"}
    found = tables.with_absolute_paths(settings, Path("/etc/x"), {"HOME": "/home/me"})
    assert found == {
        "ca_bundle": "/etc/x/a.pem",
        "region": "x",
        "instance_connect_key": "/home/me/b",
    }
    # Without a home it is complained about where it is said.
    assert tables.with_absolute_paths(settings, Path("/etc/x"), {}) == {
        **found,
        "instance_connect_key": "~/b",
    }


@pytest.mark.parametrize(
    ("setting", "problem"),
    [
        ('port = "6379"', "port: should be a whole number: write 6379 without quotes"),
        ('port = "ssh"', "port: should be a whole number"),
        ("port = 6379.0", "port: should be a whole number"),
        ('warm = "1"', "warm: should be a whole number: write 1 without quotes"),
        (
            'required = "true"',
            "required: should be true or false: write true without quotes",
        ),
        ("required = 1", "required: should be true or false"),
        ("region = 1", "region: should be text, in quotes"),
    ],
)
def test_a_value_of_another_kind_is_told_in_the_words_of_toml(setting, problem):
    port = "" if setting.startswith("port") else "port = 1\n"
    text = f'[tunnels.a]\nlisten = 1\ntarget = "i-0182d91e"\n{port}{setting}\n'
    (found,) = problems(text)
    assert found.endswith(f"tunnels.a.{problem}")
