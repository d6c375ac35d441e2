"""The shape of the tree: modules are tested, tests never sleep, docstrings are plain.

What may import what is import-linter's business (``pyproject.toml``).
"""

import ast
import io
import re
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "ssmtunneld"
TESTS = ROOT / "tests"

# Modules without a test file of their own, and why that is enough. An entry whose
# module has gone or has a test file by now must be removed: the test says so.
EXEMPT = {
    "ssmtunneld/base/duplex.py": "only a Protocol: the relay's tests implement it",
    "ssmtunneld/base/ports.py": "constants: whoever uses them is tested",
    "ssmtunneld/transport/ports.py": "protocols and records of the two kinds of port",
    "ssmtunneld/transport/streams.py": "a stream needs a port: test_mux_port",
}

# Helpers whose callers all run in virtual time (``tests/support/clockwork.py``).
VIRTUAL = {
    "tests/support/fake_control.py": "its calls take as long as the test says",
    "tests/sessions/rig.py": "its tests drive a session for hours",
}

_MARK = re.compile(
    r"#\s*(type:\s*ignore|noqa|pragma:\s*no\s*(cover|branch))\b", re.IGNORECASE
)
_CODES = re.compile(r"^(\[[\w, -]+\]|:\s*[A-Z]+\d+(,\s*[A-Z]+\d+)*)")


def _sources(*folders):
    return sorted(
        path
        for folder in folders
        for path in (ROOT / folder).rglob("*.py")
        if "__pycache__" not in path.parts
    )


def _name(path):
    return path.relative_to(ROOT).as_posix()


def _modules():
    """Return the modules that hold code: an empty ``__init__`` needs no test."""
    return [
        path
        for path in _sources("ssmtunneld")
        if path.stem != "__init__" or _holds_functions(path)
    ]


def _holds_functions(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return any(
        isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(tree)
    )


def _test_files():
    return {path.relative_to(TESTS) for path in TESTS.rglob("test_*.py")}


def _has_tests(module, present):
    """Return whether a test file is named after ``module``.

    ``aws/ssm.py`` is tested by ``test_ssm.py`` in a folder called ``aws``, or by
    ``test_aws_ssm.py`` anywhere; a package's own ``__init__`` by a name of its package.
    """
    names = [*module.relative_to(PACKAGE).parent.parts, module.stem.strip("_")]
    if module.stem == "__init__":
        names.pop()
    *folders, name = names or ["package"]
    return any(
        path.stem == "_".join(["test", *folders, name])
        or (path.stem == f"test_{name}" and path.parent.parts[-1:] == (*folders[-1:],))
        for path in present
    )


def test_every_module_has_a_test_file_or_a_reason():
    present = _test_files()
    untested = {_name(m) for m in _modules() if not _has_tests(m, present)}
    assert sorted(untested - set(EXEMPT)) == []


def test_every_exemption_is_still_needed():
    present = _test_files()
    untested = {_name(m) for m in _modules() if not _has_tests(m, present)}
    assert sorted(set(EXEMPT) - untested) == []


def _sleeps(path):
    """Yield the lines of ``path`` that wait for time to pass instead of for a fact."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    free = {
        inner for node in ast.walk(tree) if _is_virtual(node) for inner in _in(node)
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or node in free:
            continue
        called = ast.unparse(node.func)
        yields = [ast.unparse(argument) for argument in node.args] == ["0"]
        if called.split(".")[-1] == "sleep" and not yields:
            yield f"{_name(path)}:{node.lineno}: {called}"


def _is_virtual(node):
    """Return whether ``node`` is a test in virtual time, where waits cost nothing."""
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return False
    names = {ast.unparse(decorator) for decorator in node.decorator_list}
    names |= {ast.unparse(n.func) for n in ast.walk(node) if isinstance(n, ast.Call)}
    return not names.isdisjoint({"virtual", "run_virtual"})


def _in(function):
    """Return the calls of asyncio's sleep; the other one is real everywhere."""
    return [
        node
        for node in ast.walk(function)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "asyncio.sleep"
    ]


def test_no_test_sleeps():
    assert [
        line
        for path in _sources("tests")
        if _name(path) not in VIRTUAL
        for line in _sleeps(path)
    ] == []


def _comments(path):
    source = io.StringIO(path.read_text(encoding="utf-8"))
    for token in tokenize.generate_tokens(source.readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def _unexplained(comment):
    """Return whether ``comment`` silences a tool without saying why."""
    mark = _MARK.search(comment)
    if mark is None:
        return False
    reason = _CODES.sub("", comment[mark.end() :].strip())
    return len(re.findall(r"[A-Za-z]{2,}", reason)) < 2


@pytest.mark.parametrize(
    ("comment", "unexplained"),
    [
        ("# an ordinary comment", False),
        ("# type: " + "ignore", True),
        ("# type: " + "ignore[arg-type]", True),
        ("# type: " + "ignore[arg-type]  # the stub is wrong", False),
        ("# " + "noqa: S104", True),
        ("# " + "noqa: S104, S105", True),
        ("# " + "noqa: S104 - a container has no loopback", False),
        ("# pragma: " + "no cover", True),
        ("# pragma: " + "no cover - only on macOS", False),
    ],
)
def test_a_reason_is_told_from_a_code(comment, unexplained):
    assert _unexplained(comment) is unexplained


def test_every_silenced_tool_has_a_reason():
    assert [
        f"{_name(path)}:{line}: {comment}"
        for path in _sources("ssmtunneld", "tests", "benchmarks")
        for line, comment in _comments(path)
        if _unexplained(comment)
    ] == []


# A noun or a verb says sooner what a thing is.
_QUESTION = re.compile(
    r"(what|who|whom|whose|how|whether|when|where|why|which)\b", re.IGNORECASE
)


def _docstrings(text):
    """Yield line and text of each docstring, those of attributes included."""
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.Expr(value=ast.Constant(value=str(said))):
                yield node.lineno, said


@pytest.mark.parametrize(
    ("text", "asks"),
    [
        ('"""What a module is."""', True),
        ('x = 1\n"""Whether it is one."""', True),
        ('class C:\n    """How it is."""', True),
        ('def f():\n    """Return what it is."""', False),
        ('"""Whatever comes in."""', False),
    ],
)
def test_a_question_is_told_from_a_sentence(text, asks):
    (said,) = (said for _, said in _docstrings(text))
    assert (_QUESTION.match(said) is not None) is asks


def test_no_docstring_opens_with_a_question():
    assert [
        f"{_name(path)}:{line}: {said.splitlines()[0]}"
        for path in _sources("ssmtunneld")
        for line, said in _docstrings(path.read_text(encoding="utf-8"))
        if _QUESTION.match(said)
    ] == []
