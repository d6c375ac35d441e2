"""What mkdocs is told besides mkdocs.yml.

Links to files outside of ``docs/``, and to folders, lead to the source tree on GitHub.
What belongs to an item of a list is indented as mkdocs reads it: by four, where GitHub
wants it below the item's text.
"""

import re
from pathlib import Path

_LINK = re.compile(r"\]\((?P<path>[\w./-]+)(?P<anchor>#[\w-]+)?\)")
_ITEM = re.compile(r"(?P<mark>[*-] |[0-9]+\. )")
_WANTED = 4


def indented(lines):
    """Yield the lines with those of a list's items indented by four."""
    width = 0  # of the mark of the item that the line belongs to
    fenced = False
    for line in lines:
        more = ""
        item = None if fenced else _ITEM.match(line)
        if item:
            width = len(item["mark"])
        elif width and line.startswith(" " * width):
            more = " " * (_WANTED - width)
        elif line.strip():
            width = 0
        fenced ^= line.lstrip().startswith("```")
        yield more + line


def on_page_markdown(markdown, *, page, config, **_):
    """Return the page's text with its links and its lists as a site needs them."""
    docs = Path(config["docs_dir"])
    root = docs.parent

    def replaced(link):
        path = (docs / page.file.src_uri).parent.joinpath(link["path"]).resolve()
        inside = path.is_relative_to(docs) and not path.is_dir()
        if inside or not path.exists():
            return link[0]
        kind = "tree" if path.is_dir() else "blob"
        address = f"{config['repo_url']}/{kind}/main/{path.relative_to(root)}"
        return f"]({address}{link['anchor'] or ''})"

    return _LINK.sub(replaced, "\n".join(indented(markdown.split("\n"))))
