"""The build's own part: manual pages, made from the commands, for ``share/man/man1``.

They are not committed. Making them imports the commands, which is why click and the
other libraries that the commands import at once are in ``[build-system]``.
"""

import importlib
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ManualPages(BuildHookInterface):
    """Adds the manual pages to a wheel."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Write the pages to a temporary folder, and name them to the builder.

        An editable installation has none: it would keep them as they are now.
        """
        if version == "editable":
            return
        self._folder = Path(tempfile.mkdtemp(prefix="ssmtunneld-man-"))
        sys.path.insert(0, self.root)
        try:
            importlib.import_module("ssmtunneld.cli.manual").write(self._folder)
        finally:
            sys.path.remove(self.root)
        for page in sorted(self._folder.iterdir()):
            build_data["shared_data"][str(page)] = f"share/man/man1/{page.name}"

    def finalize(self, version: str, *_: object) -> None:
        """Remove the folder."""
        if version != "editable":
            shutil.rmtree(self._folder)
