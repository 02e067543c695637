"""A stand-in for conda 24.9.2: its environments are the Python that calls it, with the packages of that one.

It proves Snakemake's side of --use-conda, and nothing about what a solver says of workflow/envs. Every call is a line in the
file that CONDA_CALLS names.
"""

import json
import os
import sys
import sysconfig
import venv
from pathlib import Path

BASE = Path(__file__).resolve().parent


def main(arguments: list[str]) -> None:
    if calls := os.environ.get("CONDA_CALLS"):
        with open(calls, "a") as log:
            log.write(" ".join(arguments) + "\n")
    if arguments == ["--version"]:
        print("conda 24.9.2")
    elif arguments[:2] == ["info", "--json"]:
        print(json.dumps({"conda_prefix": str(BASE), "platform": "linux-64"}))
    elif arguments[:2] == ["config", "--get"]:
        print(json.dumps({"get": {"channel_priority": "strict"}}))
    elif "create" in arguments[:2]:
        prefix = Path(arguments[arguments.index("--prefix") + 1])
        venv.create(prefix, symlinks=True)
        (packages,) = prefix.glob("lib/python*/site-packages")
        (packages / "stand_in.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    elif arguments[:1] != ["clean"]:
        sys.exit(f"the stand-in for conda does not know: {arguments}")


if __name__ == "__main__":
    main(sys.argv[1:])
