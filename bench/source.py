"""The files that a data set is read from, and what they hold whatever their place. No torch: Snakemake asks at every start.

It imports files and plugins.
"""

import hashlib
import json
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from bench import BenchError, files, plugins

MEMORY = Path("data/sources")  # what was found last, so that unchanged files are not read again
IGNORED = ("__MACOSX", "Thumbs.db", "desktop.ini")  # and names with a dot: what systems leave in folders
FIXED = ("digits", "cifar10", "imagenette")  # sources of one archive, whose md5 they check
LARGEST = 2**28  # bytes of one file: an image has fewer, and an archive of a few bytes may promise any number


def fingerprint(name: str, spec: dict) -> str:
    """A text that is equal for equal files, wherever they lie, in a folder or in an archive of it; '' where there are none.

    sha256 over names below `path` and contents, for data set `name` with the keys `spec`. Sources that may not change are
    told apart by their name; code of the user by its own sources and, where it has a `path`, by what lies there. Of a source
    that reads one file it is that file's.
    """
    if not may_change(spec):
        return spec["source"]
    code = _code(spec)
    if code and "path" not in spec:
        return code
    path = Path(spec.get("path", ""))
    if "path" not in spec or not path.exists():
        return ""
    return code + _held(name, path, archive=spec["source"] == "image_folder")


def _code(spec: dict) -> str:
    return plugins.digest(spec["source"]) if plugins.is_one(spec["source"]) else ""


def _held(name: str, path: Path, *, archive: bool) -> str:
    """A text that is equal for equal files at `path`; one file is an `archive` of a folder, or just itself."""
    stamp = _stamp(path)
    known = _memory(name)
    if known.get("stamp") == stamp:
        return known["fingerprint"]
    if archive or path.is_dir():
        contents = {file: hashlib.sha256(content).hexdigest() for file, content in read(path)}
        found = hashlib.sha256(json.dumps(sorted(contents.items())).encode()).hexdigest()
    else:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    _remember(name, {"stamp": stamp, "fingerprint": found})
    return found


def may_change(spec: dict) -> bool:
    """Whether the source reads what the user keeps, or is the user's; any but FIXED."""
    return spec["source"] not in FIXED


def remembered(name: str, spec: dict) -> str:
    """`fingerprint`, or what it was last where the files are not there: a disk that is not mounted changes no data.

    Of files that cannot be read it says that; whoever reads them says why.
    """
    try:
        return fingerprint(name, spec) or _code(spec) + _memory(name).get("fingerprint", "")
    except (BenchError, OSError) as error:
        return f"unreadable: {error}"


def read(root: Path, ignored: list[str] | None = None) -> Iterator[tuple[str, bytes]]:
    """(name below `root`, content) of every file in a folder or .tar archive, and (name + '/', b'') of every empty folder.

    Links are read as what they point to. What systems leave in folders, hidden names among it, is left out, its names
    appended to `ignored`. BenchError for all that is no file (devices, broken links, names that lead out of an archive), that
    cannot be read or is larger than LARGEST, and for a damaged archive. Nothing is unpacked.
    """
    if root.is_dir():
        yield from _of_folder(root, [] if ignored is None else ignored)
    elif zipfile.is_zipfile(root):
        raise BenchError(f"{root}: a .zip archive, and only .tar ones are read; unpack it and name the folder")
    else:
        yield from _of_archive(root, [] if ignored is None else ignored)


def _of_folder(root: Path, ignored: list[str]) -> Iterator[tuple[str, bytes]]:
    for folder, names in _walk(root):
        if folder != root and not any(_counts(PurePosixPath(path.name)) for path in names):
            yield f"{folder.relative_to(root).as_posix()}/", b""
        for path in names:
            name = path.relative_to(root)
            if not _counts(name):
                ignored.append(name.as_posix())
            elif not path.is_dir():
                yield name.as_posix(), _content(path)


def _walk(root: Path, above: tuple[tuple[int, int], ...] = ()) -> Iterator[tuple[Path, list[Path]]]:
    """(folder, what stands in it by name) of `root` and all folders below that count, those behind links too."""
    try:
        stat = root.stat()
        found = sorted(root.iterdir())
    except OSError as error:
        raise BenchError(f"{root}: cannot be read ({error.strerror})") from None
    if (stat.st_dev, stat.st_ino) in above:
        raise BenchError(f"{root}: a link to a folder around it, which has no end; remove the link")
    yield root, found
    for path in found:
        if _counts(PurePosixPath(path.name)) and path.is_dir():
            yield from _walk(path, (*above, (stat.st_dev, stat.st_ino)))


def _content(path: Path) -> bytes:
    if not path.is_file():
        what = "a link to nothing" if path.is_symlink() and not path.exists() else "no regular file"
        raise BenchError(f"{path}: {what}; remove it, or name it with a dot in front")
    try:
        if (size := path.stat().st_size) > LARGEST:
            raise BenchError(f"{path}: {_too_large(size)}")
        return path.read_bytes()
    except OSError as error:
        raise BenchError(f"{path}: cannot be read ({error.strerror})") from None


def _too_large(size: int) -> str:
    return f"{size:,} bytes, and no image has more than {LARGEST:,}; remove it"


def _of_archive(root: Path, ignored: list[str]) -> Iterator[tuple[str, bytes]]:
    folders, filled, seen = set(), {PurePosixPath()}, set()
    try:
        with tarfile.open(root) as tar:
            for member in tar:
                name = PurePosixPath(member.name)  # './train' and 'train' are one
                if name.is_absolute() or ".." in name.parts:
                    raise BenchError(f"{root}: {member.name!r} lies outside of the archive; make it anew from a folder")
                if name in seen and not member.isdir():
                    raise BenchError(f"{root}: {member.name} stands in it twice; make it anew from a folder")
                seen.add(name)
                if not _counts(name):
                    hidden = next(part for part in reversed([name, *name.parents]) if not _counts(part)).as_posix()
                    ignored += [hidden] * (hidden not in ignored)
                    continue
                filled |= {*name.parents}
                if member.isdir():
                    folders.add(name)
                else:
                    yield name.as_posix(), _member(root, tar, member)
    except BenchError:
        raise
    except (tarfile.TarError, EOFError, OSError) as error:
        raise BenchError(f"{root}: not a complete .tar archive ({error}); copy it again") from None
    except Exception as error:  # lzma and zlib raise errors of their own on damaged streams
        raise BenchError(f"{root}: damaged archive ({error}); copy it again") from None
    for name in sorted(folders - filled):
        yield f"{name.as_posix()}/", b""


def _member(root: Path, tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    place = f"{root}: {member.name}"
    if member.size > LARGEST:
        raise BenchError(f"{place}: {_too_large(member.size)}")
    if not (member.isfile() or member.issym() or member.islnk()):
        raise BenchError(f"{place}: no regular file; make the archive anew from a folder without it")
    try:
        file = tar.extractfile(member)  # of a link, hard or symbolic: the member that it points to
    except (KeyError, RecursionError):  # none has that name; two point at each other
        file = None
    if file is None:
        raise BenchError(f"{place}: a link to {member.linkname!r}, no file of this archive; make it with `tar --dereference`")
    content = file.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise BenchError(f"{place}: {_too_large(len(content))}")
    return content


def _counts(name: PurePosixPath) -> bool:
    return not any(part.startswith(".") or part in IGNORED for part in name.parts)


def _stamp(path: Path) -> str:
    """Changes when a file is written, added, removed or renamed: sizes and times, those of the inode too."""
    found = [path]
    if path.is_dir():
        found = [item for _, names in _walk(path) for item in names]
    rows = []
    for file in found:
        stat = file.stat() if file.exists() else file.lstat()
        size, written = (stat.st_size, stat.st_mtime_ns) if not file.is_dir() else (0, 0)
        rows.append((file.relative_to(path).as_posix(), size, written, stat.st_ctime_ns if written else 0))
    return hashlib.sha256(json.dumps([str(path.resolve()), rows]).encode()).hexdigest()


def _memory(name: str) -> dict:
    try:
        found = json.loads((MEMORY / f"{name}.json").read_text(encoding="utf-8"))
        return {key: str(found[key]) for key in ("stamp", "fingerprint")}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _remember(name: str, content: dict) -> None:
    """Where it cannot be kept the files are read once more the next time."""
    try:
        files.replace(MEMORY / f"{name}.json", lambda file: file.write(json.dumps(content).encode() + b"\n"))
    except OSError as error:
        if files.sentence(error) is None:
            raise
