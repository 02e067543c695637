"""Files that exist whole or not at all, and what is said where the system refuses to write or read one.

It imports `bench` alone.
"""

import contextlib
import errno
import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

# Refusals of the system that a user can mend, and how. Any other error is one of this program.
WAYS_OUT = {
    errno.ENOSPC: "free some space and give the same command again",
    errno.EDQUOT: "free some of your quota and give the same command again",
    errno.EROFS: "work in a folder that can be written",
    errno.EACCES: "let yourself read and write it, or work in a folder of your own",
    errno.EPERM: "let yourself read and write it, or work in a folder of your own",
    errno.EIO: "the disk fails; work on another one",
}


def replace(path: Path, write: Callable[[BinaryIO], None], *, lasting: bool = False) -> None:
    """Lets `write` fill a file that then takes the place of `path`; what fails half-way leaves nothing behind.

    What killed processes left half-way goes, too.
    With `lasting` its content is on the disk before its name is: a rename that outlives its content is a damaged file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep(path)
    # of this process on this machine alone: another node may write the same file
    partial = path.with_name(f".{path.name}.{platform.node()}-{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            write(file)
            if lasting:
                file.flush()
                os.fsync(file.fileno())
        partial.replace(path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        if isinstance(error, OSError):
            error.filename = os.fspath(path)
        raise


def sweep(path: Path) -> None:
    """Deletes what killed processes of this machine left of `path`; the partial files of living ones stay."""
    for partial in path.parent.glob(f".{path.name}.{platform.node()}-*.partial"):
        pid = partial.name.removesuffix(".partial").rpartition("-")[2]
        if pid.isdigit() and not _lives(int(pid)):
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):  # another user's
        return True
    return True


def sentence(error: OSError) -> str | None:
    """What a user can do about `error`, None where it is no matter of disks and permissions."""
    way_out = WAYS_OUT.get(error.errno)
    return way_out and f"{error.filename or 'a file'}: {error.strerror}; {way_out}"
