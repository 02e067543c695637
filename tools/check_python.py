"""Says, before anything is installed, why the pinned packages have no wheels for this Python or this machine.

Looked up on PyPI in November 2026: all pins have wheels (connection-pool is Python only) for Python 3.11 to 3.13 on Linux
x86_64 and aarch64 and on macOS 14 arm64. No newer syntax than Python 3.6 has, so that an old one reads it.
"""

import platform
import sys


def problem(version, system, machine, macos=""):
    # type: (tuple[int, int], str, str, str) -> str | None
    """A sentence with the way out; None where wheels exist. Arguments as of sys.version_info and platform."""
    here = "Python {}.{}: ".format(*version)
    other = "; take Python 3.11, 3.12 or 3.13: make PYTHON=python3.12, say"
    if version < (3, 11):
        return here + "too old for NumPy 2.4 and others" + other
    if version >= (3, 14):
        return (
            here + "immutables 0.21, which Snakemake needs, has no wheel for it, and without one asks for a compiler" + other
        )
    if system == "Darwin" and machine == "x86_64":
        return (
            "torch 2.13 has no wheel for Macs with Intel processors; take a Linux machine, or a Mac with an Apple processor"
        )
    if system == "Darwin" and macos and int(macos.split(".")[0]) < 14:
        return "macOS " + macos + ": torch 2.13 has wheels for macOS 14 and newer; update the system, or take a Linux machine"
    return None


if __name__ == "__main__":
    sys.exit(problem(sys.version_info[:2], platform.system(), platform.machine(), platform.mac_ver()[0]))
