"""What mkdocs is told besides mkdocs.yml.

Links to files outside of ``docs/``, and to folders, lead to the source tree on GitHub.
"""

import re
from pathlib import Path

_LINK = re.compile(r"\]\((?P<path>[\w./-]+)(?P<anchor>#[\w-]+)?\)")


def on_page_markdown(markdown, *, page, config, **_):
    """Return the page's text with its links to files of the source tree replaced."""
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

    return _LINK.sub(replaced, markdown)
