"""Pack trees of site-packages into one file: ``python pack.py TREES PLATFORM FILE``.

TREES has a folder for each version of Python. What is the same in all of them is
packed once, as ``all/PATH``, and the rest as ``3.12/PATH``. The same trees make the
same bytes.
"""

import hashlib
import json
import os
import stat
import sys
import time
import zipfile
from pathlib import Path

HERE = Path(__file__).parent
SHEBANG = b"#!/usr/bin/env python3\n"


def contents(trees: Path) -> dict[str, Path]:
    """Return the files of an archive by their names in it."""
    found: dict[str, dict[str, Path]] = {}
    versions = sorted(path.name for path in trees.iterdir())
    for version in versions:
        for path in sorted((trees / version).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                name = path.relative_to(trees / version).as_posix()
                found.setdefault(name, {})[version] = path
    packed = {}
    for name, by_version in found.items():
        texts = {path.read_bytes() for path in by_version.values()}
        if len(by_version) == len(versions) and len(texts) == 1:
            packed[f"all/{name}"] = by_version[versions[0]]
        else:
            packed |= {f"{v}/{name}": path for v, path in by_version.items()}
    return packed


def pack(trees: Path, platform: str, target: Path) -> None:
    """Write the file, so that it can be started."""
    packed = contents(trees)
    digest = hashlib.sha256()
    for name, path in sorted(packed.items()):
        digest.update(f"{name}\0{path.stat().st_size}\0".encode() + path.read_bytes())
    about = {
        "digest": digest.hexdigest(),
        "platform": platform,
        "pythons": sorted(path.name for path in trees.iterdir()),
    }
    moment = time.gmtime(int(os.environ["SOURCE_DATE_EPOCH"]))[:6]
    with target.open("wb") as file:
        file.write(SHEBANG)
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:

            def add(name: str, data: bytes) -> None:
                info = zipfile.ZipInfo(name, moment)
                info.compress_type = zipfile.ZIP_DEFLATED
                info.external_attr = (stat.S_IFREG | 0o644) << 16
                archive.writestr(info, data)

            add("__main__.py", (HERE / "start.py").read_bytes())
            add("about.json", json.dumps(about, sort_keys=True).encode())
            for name, path in sorted(packed.items()):
                add(name, path.read_bytes())
    target.chmod(0o755)


if __name__ == "__main__":
    pack(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
