"""There is one version, and everything tells the same."""

import re
from importlib.metadata import version

import ssmtunneld
from ssmtunneld.version import __version__


def test_the_version_is_a_release_and_the_packages():
    assert re.fullmatch(r"\d+\.\d+\.\d+", __version__)
    assert ssmtunneld.__version__ == __version__
    assert version("ssmtunneld") == __version__
