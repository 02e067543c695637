"""The GPUs that this process may use, each under one name, whatever it is called where it is asked for.

CUDA_VISIBLE_DEVICES is read as the CUDA Programming Guide (5.2.1.1) and torch.cuda do: numbers, UUIDs and their prefixes, MIG
instances; a name of nothing hides those behind it. A process is shown one GPU only, so unlike there kinds may be mixed.
"""

import os
import re
import shutil
import subprocess
import sys
from functools import cache
from typing import NamedTuple

from bench import BenchError

VISIBLE = "CUDA_VISIBLE_DEVICES"
# The oldest driver of each CUDA version, by its first number (CUDA Toolkit release notes, minor version compatibility).
OLDEST_DRIVER = {12: 525, 13: 580}
LEGACY_MIG = r"MIG-(GPU-[^/]+)/\d+/\d+"  # GPU, GPU instance, compute instance: as drivers before 470 have it


class Gpu(NamedTuple):
    """A GPU of the driver: its number in nvidia-smi, its UUID and the ids of its MIG instances, where it is split."""

    number: str
    uuid: str
    instances: tuple[str, ...]

    @property
    def devices(self) -> tuple[str, ...]:
        """What a process can use of it: CUDA gives one instance to a process, and a split GPU is not used as a whole."""
        return self.instances or (self.uuid,)


@cache
def listed() -> list[Gpu]:
    """What the NVIDIA driver lists, in the order of PCI buses; nothing without a driver that answers."""
    listing = _ask("-L")
    blocks = re.findall(r"^GPU (\d+):.*\(UUID: (\S+)\)((?:\n\s+MIG .*)*)", listing, re.M)
    return [Gpu(number, uuid, tuple(re.findall(r"\(UUID: (\S+)\)", split))) for number, uuid, split in blocks]


def visible() -> list[str]:
    """Ids of the devices that this process may use: those in CUDA_VISIBLE_DEVICES, without it all that the driver lists.

    Each is a UUID or a MIG instance as the driver spells it, so that equal devices have equal ids. A number is nvidia-smi's,
    as with CUDA_DEVICE_ORDER=PCI_BUS_ID: GPUs of several models are better named by UUID. Without nvidia-smi the names are
    taken at their word. BenchError where a device is named twice, with which CUDA shows none at all.
    """
    asked = os.environ.get(VISIBLE)
    if asked is None:
        return [device for gpu in listed() for device in gpu.devices]
    found: list[str] = []
    for name in (name.strip() for name in asked.split(",")):
        device = _device(name, listed())
        if device is None:
            break
        if device in found:
            raise BenchError(f"{VISIBLE}={asked}: {device} is named twice, and CUDA then shows none; name each once")
        found.append(device)
    return found


def _device(name: str, gpus: list[Gpu]) -> str | None:
    """The id of the device that `name` means; None for none, and for a prefix of several. Of a split GPU its first instance.

    The first one is what CUDA takes by itself (MIG User Guide, CUDA Device Enumeration).
    """
    if number := re.match(r"\d+", name):  # `1x` is 1 to CUDA, which reads it with strtoul
        name = str(int(number[0]))
        found = [gpu.devices[0] for gpu in gpus if gpu.number == name]
    elif name.startswith("GPU-"):
        found = [gpu.devices[0] for gpu in gpus if gpu.uuid.startswith(name)]
    elif name.startswith("MIG-"):
        found = [device for gpu in gpus for device in gpu.instances if device.startswith(name)]
        if not found and (legacy := re.fullmatch(LEGACY_MIG, name)):  # which instance that is the list does not say
            found = [name for gpu in gpus if gpu.instances and gpu.uuid.startswith(legacy[1])]
    else:
        return None
    if not gpus:
        return name
    return found[0] if len(found) == 1 else None


def why_none(torch_version: str, cuda: str | None) -> str:
    """Why torch `torch_version`, built for CUDA version `cuda` or for none, sees no GPU here, and what helps."""
    in_conda = sys.prefix == os.environ.get("CONDA_PREFIX")
    if cuda is None:
        other = "conda takes one with CONDA_OVERRIDE_CUDA=12.9" if in_conda else "`make -B setup` installs one, on Linux"
        return f"torch {torch_version} is a build without CUDA; {other}"
    driver = _ask("--query-gpu=driver_version", "--format=csv,noheader").partition("\n")[0].strip()
    oldest = OLDEST_DRIVER.get(int(cuda.split(".")[0]))
    if oldest and (number := re.match(r"\d+", driver)) and int(number[0]) < oldest:
        other = "conda takes one with CONDA_OVERRIDE_CUDA=12.9" if in_conda else "`make -B setup TORCH=cu126` installs it"
        return (
            f"the NVIDIA driver is {driver}, and torch {torch_version}, built for CUDA {cuda}, needs {oldest} or newer; "
            f"update the driver, or take a build for CUDA 12, for which driver {OLDEST_DRIVER[12]} is enough: {other}"
        )
    if not listed():
        return "no NVIDIA driver answers: nvidia-smi lists no GPU; install the driver, or ask for a node with a GPU"
    if VISIBLE in os.environ and not visible():
        named = ", ".join(f"{gpu.number} ({', '.join(gpu.devices)})" for gpu in listed())
        return f"{VISIBLE}={os.environ[VISIBLE]} names none of the GPUs of this machine: {named}"
    return f"driver {driver} lists a GPU, but CUDA {cuda} cannot use it; `nvidia-smi` and `dmesg` may say why"


def _ask(*arguments: str) -> str:
    """What nvidia-smi prints; '' where there is none, or it fails."""
    if not shutil.which("nvidia-smi"):
        return ""
    done = subprocess.run(["nvidia-smi", *arguments], capture_output=True, text=True, check=False)
    return done.stdout if done.returncode == 0 else ""
