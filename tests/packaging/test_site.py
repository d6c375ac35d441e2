"""The documentation site: its menu has every page, and what pages show can be used.

Links and anchors are checked by `packaging/build-site`, which needs a network.
"""

import re
import runpy
import textwrap
from types import SimpleNamespace

import pytest
import yaml

from ssmtunneld.config import load_config
from tests.packaging.container import ROOT

DOCS = ROOT / "docs"
TASKS = sorted((DOCS / "tasks").glob("*.md"))
EXAMPLE = re.compile(r"^( *)```toml\n(.*?)^\1```", re.MULTILINE | re.DOTALL)


class Settings(yaml.SafeLoader):
    """Reads mkdocs.yml, which calls a function of Python's."""


Settings.add_multi_constructor("tag:yaml.org,2002:python/", lambda *_: None)


def pages(menu):
    """Return the paths of the pages of a menu."""
    for entry in menu:
        for target in entry.values() if isinstance(entry, dict) else [entry]:
            yield from pages(target) if isinstance(target, list) else [target]


def test_the_menu_has_every_page_once():
    settings = yaml.load((ROOT / "mkdocs.yml").read_text(), Settings)
    listed = sorted(pages(settings["nav"]))
    there = sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))
    assert listed == there, "the menu is `nav` in mkdocs.yml"
    assert settings["strict"]


def examples():
    """Yield every configuration that a page about a task shows."""
    for path in TASKS:
        for number, found in enumerate(EXAMPLE.finditer(path.read_text()), 1):
            yield pytest.param(textwrap.dedent(found[2]), id=f"{path.stem}-{number}")


@pytest.mark.parametrize("text", list(examples()))
def test_a_configuration_that_a_task_shows_can_be_used(text, tmp_path):
    path = tmp_path / "config.toml"
    path.write_text(text)
    assert load_config(path, {}).tunnels


def test_links_out_of_the_folder_lead_to_the_source():
    hooks = runpy.run_path(str(ROOT / "packaging" / "site" / "hooks.py"))
    page = SimpleNamespace(file=SimpleNamespace(src_uri="tasks/trouble.md"))
    config = {"docs_dir": str(DOCS), "repo_url": "https://example.com/it"}
    text = "[a](../../SECURITY.md#x) [b](../iam.md) [c](../kubernetes) [d](../../no.md)"
    assert hooks["on_page_markdown"](text, page=page, config=config) == (
        "[a](https://example.com/it/blob/main/SECURITY.md#x) [b](../iam.md) "
        "[c](https://example.com/it/tree/main/docs/kubernetes) [d](../../no.md)"
    )


def test_what_belongs_to_an_item_of_a_list_is_indented_by_four():
    hooks = runpy.run_path(str(ROOT / "packaging" / "site" / "hooks.py"))
    given = """\
1. one

   ```sh
   * code
   ```
2. two
   and more
   - below

text
  * no list
* item

  of it
```
1. code
   as it is
```
"""
    wanted = """\
1. one

    ```sh
    * code
    ```
2. two
    and more
    - below

text
  * no list
* item

    of it
```
1. code
   as it is
```
"""
    assert list(hooks["indented"](given.split("\n"))) == wanted.split("\n")
