"""The files that a data set is read from, and what they hold whatever their place. No torch: Snakemake asks at every start.

It imports `bench` alone.
"""

import hashlib
import json
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from bench import BenchError

MEMORY = Path("data/sources")  # what was found last, so that unchanged files are not read again
IGNORED = ("__MACOSX", "Thumbs.db", "desktop.ini")  # and names with a dot: what systems leave in folders


def fingerprint(name: str, spec: dict) -> str:
    """A text that is equal for equal files, wherever they lie, in a folder or in an archive of it; '' where there are none.

    sha256 over names below `path` and contents, for data set `name` with the keys `spec`. Sources that may not change are
    told apart by their name.
    """
    if not may_change(spec):
        return spec["source"]
    path = Path(spec.get("path", ""))
    if "path" not in spec or not path.exists():
        return ""
    stamp = _stamp(path)
    known = _memory(name)
    if known.get("stamp") == stamp:
        return known["fingerprint"]
    contents = {file: hashlib.sha256(content).hexdigest() for file, content in files(path)}
    found = hashlib.sha256(json.dumps(sorted(contents.items())).encode()).hexdigest()
    _remember(name, {"stamp": stamp, "fingerprint": found})
    return found


def may_change(spec: dict) -> bool:
    """Whether the source reads what the user keeps; the others have one archive, whose md5 they check."""
    return spec["source"] == "image_folder"


def remembered(name: str, spec: dict) -> str:
    """`fingerprint`, or what it was last where the files are not there: a disk that is not mounted changes no data.

    Of files that cannot be read it says that; whoever reads them says why.
    """
    try:
        return fingerprint(name, spec) or _memory(name).get("fingerprint", "")
    except (BenchError, OSError) as error:
        return f"unreadable: {error}"


def files(root: Path) -> Iterator[tuple[str, bytes]]:
    """(name below `root`, content) of every file in a folder or .tar archive but the IGNORED ones; BenchError if damaged."""
    if root.is_dir():
        for path in sorted(root.rglob("*")):
            name = path.relative_to(root)
            if _counts(name) and path.is_file():
                yield name.as_posix(), path.read_bytes()
        return
    try:
        with tarfile.open(root) as tar:
            for member in tar:
                name = PurePosixPath(member.name)  # './train' and 'train' are one
                if _counts(name) and member.isfile():
                    yield name.as_posix(), tar.extractfile(member).read()
    except (tarfile.TarError, EOFError, OSError) as error:
        raise BenchError(f"{root}: not a complete .tar archive ({error}); copy it again") from None
    except Exception as error:  # lzma and zlib raise errors of their own on damaged streams
        raise BenchError(f"{root}: damaged archive ({error}); copy it again") from None


def _counts(name: PurePosixPath) -> bool:
    return not any(part.startswith(".") or part in IGNORED for part in name.parts)


def _stamp(path: Path) -> str:
    """Changes when a file is written, added, removed or renamed: sizes and times, those of the inode too."""
    found = [path, *sorted(path.rglob("*"))] if path.is_dir() else [path]
    rows = []
    for file in found:
        if not file.is_dir():
            stat = file.stat()
            rows.append((file.relative_to(path).as_posix(), stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns))
    return hashlib.sha256(json.dumps([str(path.resolve()), rows]).encode()).hexdigest()


def _memory(name: str) -> dict:
    try:
        found = json.loads((MEMORY / f"{name}.json").read_text())
        return {key: str(found[key]) for key in ("stamp", "fingerprint")}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _remember(name: str, content: dict) -> None:
    MEMORY.mkdir(parents=True, exist_ok=True)
    partial = MEMORY / f".{name}.{os.getpid()}.partial"
    partial.write_text(json.dumps(content) + "\n")
    partial.replace(MEMORY / f"{name}.json")
