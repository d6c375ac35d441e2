"""The wheel, built once for all that tries it."""

import tarfile

import pytest

from tests.packaging.container import ROOT
from tests.support.wheel import build


@pytest.fixture(scope="session")
def sdist(tmp_path_factory):
    """The sdist of this tree."""
    return build(ROOT, tmp_path_factory.mktemp("sdist"), "sdist")


@pytest.fixture(scope="session")
def wheel(sdist, tmp_path_factory):
    """The wheel, built from the sdist."""
    folder = tmp_path_factory.mktemp("source")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    (source,) = folder.iterdir()
    return build(source, tmp_path_factory.mktemp("wheel"), "wheel")
