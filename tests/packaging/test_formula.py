"""``packaging/files/formula.py``: Homebrew's formula has what the lock has."""

import hashlib
import re
import runpy
import shutil
import subprocess

import pytest

from ssmtunneld.version import __version__
from tests.packaging.container import ROOT

SCRIPT = runpy.run_path(str(ROOT / "packaging/files/formula.py"), run_name="formula")
WHEEL = f"ssmtunneld-{__version__}-py3-none-any.whl"
PLATFORMS = {
    "macosx_11_0_arm64": ("on_macos", "on_arm"),
    "macosx_10_13_x86_64": ("on_macos", "on_intel"),
    "manylinux_2_28_aarch64": ("on_linux", "on_arm"),
    "manylinux2014_x86_64.manylinux_2_17_x86_64": ("on_linux", "on_intel"),
}


def digest(text):
    """Return a digest that nothing else has."""
    return hashlib.sha256(text.encode()).hexdigest()


def package(name, *tags):
    """Return a library as PEP 751 has it, with a wheel for each of the tags."""
    wheels = [f"{name.replace('-', '_')}-1.0-{tag}.whl" for tag in tags]
    return {
        "name": name,
        "wheels": [
            {"url": f"https://index/{w}", "hashes": {"sha256": digest(w)}}
            for w in wheels
        ],
    }


def compiled(name, *pythons):
    """Return a library with machine code for each platform."""
    return package(name, *(f"{py}-{place}" for py in pythons for place in PLATFORMS))


def lock_of(*packages):
    """Return the lock of these, with the digests of all their files."""
    entries = []
    for each in packages:
        hashes = [f"    --hash=sha256:{w['hashes']['sha256']}" for w in each["wheels"]]
        entries.append(" \\\n".join([f"{each['name']}==1.0", *hashes]))
    return "# Made.\n" + "\n".join(entries) + "\n"


def formula(*packages, lock=None):
    """Return the formula with these libraries."""
    text = lock_of(*packages) if lock is None else lock
    given = {"packages": packages}
    return SCRIPT["formula"](__version__, WHEEL, digest("own"), given, text)


PURE = package("a-b", "py3-none-any")
FAST = compiled("fast", "cp311-cp311", "cp313-cp313", "cp313-cp313t", "cp314-cp314")
STABLE = compiled("stable", "cp39-abi3")


def test_it_installs_the_wheel_of_the_release_and_asks_for_its_version():
    text = formula(PURE)
    address = f"releases/download/v{__version__}/{WHEEL}"
    assert f'/ssmtunneld/{address}", using: :nounzip\n' in text
    assert f'sha256 "{digest("own")}"' in text
    assert 'shell_output("#{bin}/ssmtunneld --version")' in text
    assert text.count("python@3.13") == 2


def test_a_library_without_machine_code_is_one_file_for_all():
    text = formula(PURE)
    assert text.count('resource "a-b" do') == 1
    assert text.count("https://index/") == 1
    assert digest("a_b-1.0-py3-none-any.whl") in text


@pytest.mark.parametrize(
    ("library", "tag"),
    [(FAST, "cp313-cp313"), (STABLE, "cp39-abi3")],
    ids=["c", "abi3"],
)
def test_machine_code_is_that_of_each_system_for_homebrews_python(library, tag):
    text = formula(library)
    for platform, (system, processor) in PLATFORMS.items():
        wheel = f"{library['name']}-1.0-{tag}-{platform}.whl"
        below = text.partition(f"{system} do")[2].partition(f"{processor} do")[2]
        first, second = below.splitlines()[1:3]
        assert first.strip() == f'url "https://index/{wheel}", using: :nounzip'
        assert second.strip() == f'sha256 "{digest(wheel)}"'
    assert text.count("https://index/") == len(PLATFORMS)


def test_what_would_have_to_be_compiled_is_refused():
    lacking = package("fast", "cp313-cp313-macosx_11_0_arm64")
    with pytest.raises(ValueError, match="fast has no wheel for on_macos on_intel"):
        formula(lacking)
    with pytest.raises(ValueError, match="fast has no wheel"):
        formula(compiled("fast", "cp314-cp314"))


def test_a_file_that_the_lock_does_not_have_is_refused():
    with pytest.raises(ValueError, match="a digest that the lock does not have"):
        formula(PURE, lock=lock_of(package("a-b", "py2-none-any")))
    with pytest.raises(ValueError, match="not those of the lock"):
        formula(PURE, FAST, lock=lock_of(PURE))
    with pytest.raises(ValueError, match="not those of the lock"):
        formula(PURE, lock=lock_of(PURE, FAST))


def test_it_is_made_for_pythons_that_we_serve():
    minor = ".".join(map(str, SCRIPT["PYTHON"]))
    project = (ROOT / "pyproject.toml").read_text()
    assert f"Programming Language :: Python :: {minor}" in project
    pythons = re.search(
        r'^pythons="(.*)"$', (ROOT / "packaging/lock").read_text(), re.MULTILINE
    )
    assert minor in pythons[1].split()


@pytest.mark.skipif(not shutil.which("ruby"), reason="no ruby here")
def test_ruby_reads_it_and_has_nothing_to_complain_of(tmp_path):
    path = tmp_path / "ssmtunneld.rb"
    path.write_text(formula(PURE, FAST, STABLE))
    result = subprocess.run(
        ["ruby", "-wc", path], capture_output=True, text=True, timeout=60, check=False
    )
    assert (result.stdout, result.stderr) == ("Syntax OK\n", "")
