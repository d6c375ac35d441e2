"""The sample configuration, from a checkout and from a wheel."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from ssmtunneld.config.sample import IN_CHECKOUT, sample

ROOT = Path(__file__).parents[2]


def test_the_sample_is_the_file_at_the_top():
    assert sample() == (ROOT / "config.example.toml").read_text()
    assert ROOT / "config.example.toml" == IN_CHECKOUT


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    """Build a wheel, and unpack it outside of the checkout; return the folder."""
    folder = tmp_path_factory.mktemp("wheel")
    program = (
        "import sys; from hatchling.build import build_wheel; "
        "print(build_wheel(sys.argv[1]))"
    )
    subprocess.run(
        [sys.executable, "-c", program, folder],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "installed")
    return folder / "installed"


def test_a_wheel_brings_it_along(unpacked):
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); import ssmtunneld.config.sample "
        "as s; assert s.__file__.startswith(sys.argv[1]); print(s.sample(), end='')"
    )
    result = subprocess.run(
        [sys.executable, "-c", program, unpacked],
        check=True,
        capture_output=True,
        text=True,
    )
    assert result.stdout == sample()
