"""The user's kubeconfig: entries for a cluster behind a tunnel, and their place in it.

The file is changed as text, not parsed and written anew: comments, order and spelling
of everything else stay, no YAML library is needed, and neither is kubectl, which would
lose the comments and rewrite the file three times, once for each entry. The style that
is understood is the one that kubectl and the tools around it write, a key or an item in
each line; a file in another one is refused and left alone.
"""

from __future__ import annotations

import json
import os
import re
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

from ssmtunneld.base.folders import make_private_folder
from ssmtunneld.base.paths import exists, home, is_link, real_path
from ssmtunneld.cli.exit_codes import CommandError
from ssmtunneld.cli.file_change import Change, read_own

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    _Value: TypeAlias = "str | Mapping[str, _Value] | Sequence[_Value]"

_PRIVATE: Final = 0o600
MARK: Final = "ssmtunneld"
"""Name of the extension by which our entries are known; kubectl keeps it."""
_API: Final = "client.authentication.k8s.io/v1beta1"
_HINT: Final = "kubectl asks the AWS CLI for tokens: https://aws.amazon.com/cli/"
_INSTEAD: Final = (
    "keep the context in a file of its own: run this again without --write, into a "
    "file that you add to KUBECONFIG"
)


@dataclass(frozen=True, slots=True)
class ClusterAccess:
    """The way to a cluster, of which the three entries are made."""

    context: str
    """The name of all three entries."""
    tunnel: str
    server: str
    """The URL that kubectl connects to."""
    host: str
    """The endpoint's own name, which its certificate has."""
    authority: str
    """PEM certificates in base64."""
    arguments: tuple[str, ...]
    """For ``aws``: what makes it print a token."""
    proxy: str = ""
    """The URL of a proxy to ``server``; empty if it is an address of the tunnel."""
    namespace: str = ""
    """The namespace of the context; empty for kubectl's default."""

    def entries(self) -> dict[str, Mapping[str, _Value]]:
        """Return the entries by the section of the file that each belongs to."""
        mark: dict[str, _Value] = {
            "extensions": [{"name": MARK, "extension": {"tunnel": self.tunnel}}],
        }
        way: dict[str, _Value] = {"proxy-url": self.proxy} if self.proxy else {}
        cluster: dict[str, _Value] = {
            "server": self.server,
            **way,
            "tls-server-name": self.host,
            "certificate-authority-data": self.authority,
            **mark,
        }
        command: dict[str, _Value] = {
            "apiVersion": _API,
            "command": "aws",
            "args": self.arguments,
            "installHint": _HINT,
        }
        pair: dict[str, _Value] = {"cluster": self.context, "user": self.context}
        pair |= {"namespace": self.namespace} if self.namespace else {}
        return {
            "clusters": {"name": self.context, "cluster": cluster},
            "contexts": {"name": self.context, "context": {**pair, **mark}},
            "users": {"name": self.context, "user": {"exec": command, **mark}},
        }


def render(access: ClusterAccess) -> str:
    """Return a whole kubeconfig with nothing but the entries of ``access``."""
    head: dict[str, _Value] = {"apiVersion": "v1", "kind": "Config"}
    sections = {key: [entry] for key, entry in access.entries().items()}
    whole = {**head, **sections, "current-context": access.context}
    return "".join(f"{line}\n" for line in _lines(whole))


def merge(text: str, access: ClusterAccess, file: Path, *, force: bool = False) -> str:
    """Return ``text`` of a kubeconfig with the entries of ``access``.

    Entries of the same names are replaced where they stand, new ones come last in their
    sections; a context keeps the namespace that kubectl has set in it. An empty file
    becomes a whole one.

    Args:
        text: What the file holds.
        access: What to add.
        file: The file, for messages.
        force: Whether entries that are not ours may be replaced.

    Raises:
        CommandError: There is such an entry of somebody else, or the file is in a style
            that is not understood.
    """
    found = _Document(text, file)
    if not found.sections:
        return found.text + render(access).replace("\n", found.newline)
    kept = found.namespace_of(access.context)
    for section, entry in replace(access, namespace=kept).entries().items():
        found.put(section, access.context, entry, force=force)
    return found.text


def place(environ: Mapping[str, str]) -> Path:
    """Return the file to write to: the first of ``KUBECONFIG``, or the usual one."""
    named = [each for each in environ.get("KUBECONFIG", "").split(os.pathsep) if each]
    return Path(named[0]) if named else home() / ".kube" / "config"


def write(path: Path, access: ClusterAccess, *, force: bool = False) -> bool:
    """Put the entries of ``access`` into the file; return whether that changed it.

    It is replaced in one step, is for its owner alone afterwards, and is locked
    meanwhile as kubectl does it.

    Raises:
        CommandError: As ``merge`` does; or the file is locked, another user's, or
            cannot be written.
    """
    # Many keep this file elsewhere and link to it: the file is replaced, not the link.
    if is_link(path) and not exists(path):
        raise CommandError(f"{path} is a link that leads nowhere", "mend it")
    with _locked(path):
        file = real_path(path)
        before = read_own(file, _INSTEAD)
        after = merge(before or "", access, path, force=force)
        change = Change(file, before, after, _PRIVATE)
        if change.needed:
            change.apply()
        return change.needed


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Keep kubectl from writing at the same time: its lock is a file, too."""
    lock = path.with_name(f"{path.name}.lock")
    try:
        make_private_folder(path.parent)
    except OSError as error:
        raise CommandError(f"cannot write {path}: {error.strerror}") from None
    try:
        os.close(os.open(lock, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _PRIVATE))
    except FileExistsError:
        raise CommandError(
            f"{path} is locked by another program",
            f"try again; if no kubectl runs, remove {lock}",
        ) from None
    except OSError as error:
        raise CommandError(f"cannot write {path}: {error.strerror}") from None
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)


# Reading.

_KEY: Final = re.compile(r"(?P<key>[A-Za-z][A-Za-z0-9_-]*)[ ]*:(?:[ ]+(?P<value>.*))?")
_EMPTY: Final = re.compile(r"(?P<nothing>\[\]|null|~)?[ ]*(?P<comment>#.*)?")
_DASH: Final = re.compile(r"(?P<indent> *)-(?P<gap> +|$)")
_NAME: Final = re.compile(r"name[ ]*:[ ]+(?P<value>.+)")
_NAMESPACE: Final = re.compile(r"[ ]+namespace[ ]*:[ ]+(?P<value>.+)")
_PLAIN: Final = re.compile(r"[A-Za-z0-9_.:/@+=-]+")
_SCALAR: Final = re.compile(
    r"""(?: (?P<double>"(?:[^"\\]|\\.)*") | '(?P<single>(?:[^']|'')*)'
    | (?P<plain>[^\s\#"'&*!|>{}\[\]%@`](?:[^\s]|[ ](?![\s\#]))*) )
    [ ]*(?:(?<=[ ])\#.*)?""",
    re.VERBOSE,
)
_OURS: Final = re.compile(
    rf"""^(?P<indent>[ ]*)extensions:[ ]*\n
    (?:(?P=indent)[ -].*\n)*?
    (?P=indent)(?:-|[ ])[ ]+name:[ ]["']?{MARK}["']?[ ]*$""",
    re.MULTILINE | re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class _Item:
    """An entry of a section: its name, and its lines, the last one excluded."""

    name: str
    start: int
    stop: int


class _Document:
    """A kubeconfig as lines.

    Args:
        text: What the file holds.
        file: For messages.
    """

    def __init__(self, text: str, file: Path) -> None:
        self._file = file
        self.newline = "\r\n" if "\r\n" in text else "\n"
        self._lines = text.split(self.newline)
        if self._lines[-1] == "":
            self._lines.pop()
        for number, line in enumerate(self._lines):
            if "\r" in line or "\n" in line:
                raise self._unusable(number, "its line ends are of several kinds")
        self._read_sections()

    @property
    def text(self) -> str:
        """The whole file."""
        return "".join(f"{line}{self.newline}" for line in self._lines)

    def namespace_of(self, context: str) -> str:
        """Return the namespace of a context; empty if there is none, or no context.

        Raises:
            CommandError: The contexts are in a style that is not understood.
        """
        start, stop = self.sections.get("contexts", (0, 0))
        for item in self._items(start + 1, stop)[1]:
            lines = self._lines[item.start : item.stop] if item.name == context else ()
            for number, line in enumerate(lines, item.start):
                match = _NAMESPACE.fullmatch(line)
                if match is not None:
                    return self._scalar(match["value"], number)
        return ""

    def put(
        self, section: str, name: str, entry: Mapping[str, _Value], *, force: bool
    ) -> None:
        """Replace the entry of a section that is called ``name``, or add it.

        Raises:
            CommandError: There is one that is not ours, and no ``force``.
        """
        if section not in self.sections:
            self._lines.append(f"{section}:")
            self._read_sections()
        start, stop = self.sections[section]
        match = _KEY.fullmatch(self._lines[start])
        assert match is not None, "a section starts with its key"
        empty = _EMPTY.fullmatch(match["value"] or "")
        if empty is None:
            raise self._unusable(
                start, f"{section} is not written as a list of lines with -"
            )
        if empty["nothing"]:
            comment = f"  {empty['comment']}" if empty["comment"] else ""
            self._lines[start] = f"{section}:{comment}"
        indent, items = self._items(start + 1, stop)
        same = [item for item in items if item.name == name]
        if len(same) > 1:
            raise self._unusable(same[1].start, f"{section} has {name} twice")
        if same and not (force or self._is_ours(same[0])):
            raise CommandError(
                f"{self._file} has {name} among its {section} already, not from "
                "ssmtunneld",
                "choose another name with --context, or replace it with --force",
            )
        end = items[-1].stop if items else start + 1
        first, last = (same[0].start, same[0].stop) if same else (end, end)
        self._lines[first:last] = [f"{indent}{line}" for line in _lines([entry])]
        self._read_sections()

    def _read_sections(self) -> None:
        """Find the sections: for each key of the document, its lines."""
        starts: dict[str, int] = {}
        for number, line in enumerate(self._lines):
            if _is_blank(line) or line.startswith((" ", "- ")) or line == "-":
                if not _is_blank(line) and not starts:
                    raise self._unusable(number, "no key comes before this line")
                continue
            if line.rstrip() == "---" and not starts:
                continue
            match = _KEY.fullmatch(line)
            if match is None or match["key"] in starts:
                raise self._unusable(number, "it is not written one key in a line")
            starts[match["key"]] = number
        bounds = pairwise([*starts.values(), len(self._lines)])
        self.sections = dict(zip(starts, bounds, strict=True))

    def _items(self, start: int, stop: int) -> tuple[str, list[_Item]]:
        """Return the indentation of a list, and its items."""
        used = [n for n in range(start, stop) if not _is_blank(self._lines[n])]
        if not used:
            return "", []
        first = _DASH.match(self._lines[used[0]])
        if first is None:
            raise self._unusable(used[0], "it is not an item of a list")
        indent = first["indent"]
        begins = []
        for number in used:
            match = _DASH.match(self._lines[number])
            if match is not None and match["indent"] == indent:
                begins.append(number)
            elif not self._lines[number].startswith(f"{indent} "):
                raise self._unusable(number, "it is not an item of a list")
        return indent, [
            _Item(self._name(begin, end), begin, self._end(begin, end, indent))
            for begin, end in pairwise([*begins, stop])
        ]

    def _end(self, begin: int, end: int, indent: str) -> int:
        """Return where an item ends, without comments that belong to what follows."""
        # Indented, it can also be the last line of a text that spans several.
        inside = f"{indent} "
        return 1 + max(
            number
            for number in range(begin, end)
            if (line := self._lines[number]).strip()
            and (number == begin or line.startswith(inside))
        )

    def _name(self, begin: int, end: int) -> str:
        """Return the name of the item in these lines."""
        match = _DASH.match(self._lines[begin])
        assert match is not None, "an item starts with a dash"
        bodies = [line for line in self._lines[begin:end] if not _is_blank(line)]
        if match["gap"]:
            column = match.end()
            bodies[0] = " " * column + bodies[0][column:]
        else:
            bodies = bodies[1:]
            column = len(bodies[0]) - len(bodies[0].lstrip()) if bodies else 0
        for body in bodies:
            named = _NAME.fullmatch(body[column:]) if body[:column].isspace() else None
            if named is not None:
                return self._scalar(named["value"], begin)
        raise self._unusable(begin, "it has no name that can be read")

    def _scalar(self, text: str, number: int) -> str:
        """Return the value of a scalar on one line, perhaps with a comment."""
        match = _SCALAR.fullmatch(text)
        if match is None:
            raise self._unusable(number, "this value cannot be read")
        if match["single"] is not None:
            return match["single"].replace("''", "'")
        if match["double"] is None:
            return match["plain"]
        try:
            value: str = json.loads(match["double"])
        except ValueError:  # YAML has more escapes than JSON
            raise self._unusable(number, "this value cannot be read") from None
        return value

    def _is_ours(self, item: _Item) -> bool:
        return _OURS.search("\n".join(self._lines[item.start : item.stop])) is not None

    def _unusable(self, number: int, why: str) -> CommandError:
        return CommandError(
            f"{self._file}, line {number + 1}: {why}, so the file is left alone",
            _INSTEAD,
        )


def _is_blank(line: str) -> bool:
    bare = line.strip()
    return not bare or bare.startswith("#")


# Writing.


def _lines(value: _Value) -> Iterator[str]:
    """Yield the lines of a value in the style of YAML that kubectl writes."""
    if isinstance(value, str):
        yield _spelled(value)
    elif isinstance(value, list | tuple):
        for each in value:
            first, *rest = _lines(each)
            yield f"- {first}"
            yield from (f"  {line}" for line in rest)
    else:
        assert isinstance(value, dict), "neither a text nor a list"
        for key, inner in value.items():
            if isinstance(inner, str):
                yield f"{key}: {_spelled(inner)}"
                continue
            yield f"{key}:"
            gap = "" if isinstance(inner, list | tuple) else "  "
            yield from (f"{gap}{line}" for line in _lines(inner))


_LAST_OF_FOUR_DIGITS: Final = 0xFFFF
_OTHER_TYPES: Final = re.compile(
    r"(?i:true|false|yes|no|on|off|y|n|null|nan|inf)|[0-9+.=@-].*|.*:"
)
"""Words that YAML, in one version or another, does not read as texts."""


def _spelled(text: str) -> str:
    if _PLAIN.fullmatch(text) and not _OTHER_TYPES.fullmatch(text):
        return text
    # JSON's texts are YAML's, with one exception: where JSON writes a character as two
    # surrogates, kubectl cannot read the whole file.
    quoted = json.dumps(text, ensure_ascii=False)
    return "".join(c if c.isprintable() else _escaped(c) for c in quoted)


def _escaped(character: str) -> str:
    code = ord(character)
    return f"\\u{code:04x}" if code <= _LAST_OF_FOUR_DIGITS else f"\\U{code:08x}"
