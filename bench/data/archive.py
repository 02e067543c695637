"""The publisher's archive of a dataset: downloaded once, its md5 checked before anything in it is read."""

import hashlib
from pathlib import Path

import pooch

from bench import BenchError


def official(spec: dict, url: str, md5: str) -> Path:
    """The archive at `path`, or downloaded from `url` into data/; BenchError unless it is the one with this md5."""
    file, source = Path(url).name, spec["source"]
    archive = Path(spec["path"]) if "path" in spec else _download(url, md5, source)
    if not archive.is_file():
        raise BenchError(f"{archive}: no such archive; it should be {file} (see datasets in config.yaml)")
    found = hashlib.md5(archive.read_bytes(), usedforsecurity=False).hexdigest()
    if found != md5:
        raise BenchError(
            f"{archive}: md5 {found}, the official archive has {md5}: truncated or another file; delete it and run "
            "again, or read other images as source: image_folder"
        )
    return archive


def _download(url: str, md5: str, source: str) -> Path:
    file = Path(url).name
    try:
        return Path(pooch.retrieve(url, known_hash=f"md5:{md5}", fname=file, path="data", progressbar=True))
    except ValueError:  # pooch's word for another hash
        raise BenchError(
            f"{url}: what was downloaded is not the official archive, whose md5 is {md5}: the publisher changed it, or "
            "something between here and there did; try again, or fetch it by other means and give its `path`"
        ) from None
    except Exception as error:  # pooch passes on whatever the network library raised
        raise BenchError(
            f"{url}: cannot be downloaded ({type(error).__name__}); fetch it by other means and put into "
            f"config.local.yaml: datasets: {{{source}: {{path: /where/it/is/{file}}}}}"
        ) from None
