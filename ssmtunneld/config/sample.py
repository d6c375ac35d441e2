"""The sample configuration: one file, in a checkout and in what is installed."""

from importlib import resources
from pathlib import Path
from typing import Final

RESOURCE: Final = "example.toml"
"""Its file name in this package."""
IN_CHECKOUT: Final = Path(__file__).parents[2] / "config.example.toml"


def sample() -> str:
    """Return the text of the sample configuration."""
    packaged = resources.files("ssmtunneld.config") / RESOURCE
    if packaged.is_file():
        return packaged.read_text(encoding="utf-8")
    # An editable installation has the file where the wheel takes it from.
    return IN_CHECKOUT.read_text(encoding="utf-8")
