"""Code of the user that the configuration names, "package.module:function": found, identified by its sources, called.

It is sought in the working directory and on Python's path, and runs with the user's rights. Finding and identifying it runs
nothing, so that the plan can. It imports `bench` alone.
"""

import hashlib
import importlib
import os
import sys
import traceback
from collections.abc import Callable
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import Any

from bench import BenchError

# Digest of a module's sources when this process imported it: Python keeps what it imported, whatever is edited since.
_IMPORTED: dict[str, str] = {}


def is_one(name: Any) -> bool:
    """Whether a family or a source is code of the user rather than one of the suite's."""
    return isinstance(name, str) and ":" in name


def references(config: dict) -> dict[str, str]:
    """{place in the configuration: reference} of all code of the user that it names."""
    found = {f"archs.{name}.family": arch["family"] for name, arch in config["archs"].items()}
    found |= {f"datasets.{name}.source": dataset["source"] for name, dataset in config["datasets"].items()}
    return {place: name for place, name in found.items() if is_one(name)}


def find(reference: str) -> Path:
    """The file that holds the function; BenchError where there is none."""
    return Path(_specs(reference)[-1].origin)


def digest(reference: str) -> str:
    """sha256 over the module's source, or over all .py files of the package that it belongs to; first 12 digits."""
    specs = _specs(reference)
    found = hashlib.sha256()
    if specs[0].submodule_search_locations is None:
        found.update(Path(specs[0].origin).read_bytes())
    for folder in specs[0].submodule_search_locations or ():
        for file in sorted(Path(folder).rglob("*.py")):
            found.update(f"{file.relative_to(folder).as_posix()}\n".encode() + file.read_bytes())
    return found.hexdigest()[:12]


def _specs(reference: str) -> list[ModuleSpec]:
    """Of every part of the dotted name; without importing packages, as importlib.util would."""
    name = reference.partition(":")[0]
    importlib.invalidate_caches()
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    paths, parts, specs = None, name.split("."), []
    for count in range(1, len(parts) + 1):
        spec = PathFinder.find_spec(".".join(parts[:count]), paths)
        if spec is None:
            raise BenchError(
                f"{reference}: no module {'.'.join(parts[:count])} in {os.getcwd()} or on Python's path; "
                "start in the folder that holds it, or install it"
            )
        specs.append(spec)
        paths = spec.submodule_search_locations or []
    if not (specs[-1].origin or "").endswith(".py"):
        raise BenchError(f"{reference}: {name} is no Python file, whose source could be told apart; name one of its modules")
    return specs


def load(reference: str, expected: str | None = None) -> Callable:
    """The function; BenchError where its module cannot be imported or lacks it, or is not the one of digest `expected`."""
    name, _, function = reference.partition(":")
    path, before = find(reference), digest(reference)
    try:
        module = importlib.import_module(name)
    except (Exception, SystemExit) as error:
        raise BenchError(f"{reference}: {name} cannot be imported: {_said(error, path)}") from error
    if Path(module.__file__ or "").resolve() != path.resolve():
        raise BenchError(f"{reference}: {module.__file__} has the same name, and is imported already; rename {path}")
    imported = _IMPORTED.setdefault(name, before)
    if len({before, imported, digest(reference), expected or before}) > 1:
        raise BenchError(f"{reference}: {path} was edited since this run was planned; give the command again")
    if not callable(getattr(module, function, None)):
        raise BenchError(f"{reference}: {path} has no function {function}; define it there, or name another one")
    return getattr(module, function)


def call(reference: str, function: Callable, *arguments: Any) -> Any:
    """What the function of `reference` returns; BenchError with the line where it raises."""
    try:
        return function(*arguments)
    except BenchError as error:
        raise BenchError(f"{reference}: {error}") from error
    except (Exception, SystemExit) as error:
        raise BenchError(f"{reference}: {_said(error, find(reference))}") from error


def _said(error: BaseException, path: Path) -> str:
    """'ValueError: no such depth (/home/me/mine/net.py:12)', the line being the user's where one of these is to blame."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith("<frozen")]
    blamed = [frame for frame in frames if Path(frame.filename).is_relative_to(path.parent)] or frames
    message = str(error).partition("\n")[0]
    place = "" if isinstance(error, SyntaxError) else f" ({blamed[-1].filename}:{blamed[-1].lineno})"
    return f"{type(error).__name__}: {message}{place}"
