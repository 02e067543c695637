"""Energy of a run: the GPU's own counter (NVML), or that of the CPU packages (RAPL), where the system lets one read it.

Either counts the whole device, whatever else runs on it: of runs side by side each is charged all of it. A CPU's package
includes its caches and memory controller, not the memory, the mainboard or the power supply; a GPU's counter is that of its
board, and the CPU that feeds it is not in it. Reading RAPL needs root on most systems since 2020 (CVE-2020-8694).
"""

import ctypes
import re
from collections.abc import Callable
from pathlib import Path

import torch

POWERCAP = Path("/sys/class/powercap")
NVML = "libnvidia-ml.so.1"

Counter = tuple[Callable[[], float], float]  # joules since some moment, the joules at which it starts anew


class Meter:
    """Counts from its construction; `read` often enough, since a CPU's counter starts anew after some 2^18 joules."""

    def __init__(self, device: torch.device):
        self._counters = _gpu(device) if device.type == "cuda" else _packages(POWERCAP)
        self._joules: float | None = 0.0
        self._last = self._now()

    def read(self) -> float | None:
        """Joules so far, those before `resume` included; None where no counter can be read."""
        now = self._now()
        if now is None or self._last is None:
            self._joules = None
        if self._joules is not None:
            for (_, period), before, after in zip(self._counters, self._last, now, strict=True):
                self._joules += after - before if after >= before else after - before + period
        self._last = now
        return self._joules

    def resume(self, joules: float | None) -> None:
        """Goes on from what an earlier process read, and counts from now."""
        self._joules, self._last = joules, self._now()

    def _now(self) -> list[float] | None:
        try:
            return [count() for count, _ in self._counters] or None
        except (OSError, ValueError):
            return None


def _packages(folder: Path) -> list[Counter]:
    """RAPL's counter of every CPU package; its parts (cores, memory) and psys, which contains the packages, are left out."""
    try:
        zones = [zone for zone in sorted(folder.glob("intel-rapl:*")) if re.fullmatch(r"intel-rapl:\d+", zone.name)]
        packages = [zone for zone in zones if (zone / "name").read_text().startswith("package")]
        return [
            (_microjoules(zone / "energy_uj"), int((zone / "max_energy_range_uj").read_text()) / 1e6) for zone in packages
        ]
    except (OSError, ValueError):
        return []


def _microjoules(path: Path) -> Callable[[], float]:
    return lambda: int(path.read_text()) / 1e6


def _gpu(device: torch.device) -> list[Counter]:
    """The counter of the GPU that torch calls `device`, found by its UUID since NVML numbers GPUs in another order."""
    try:
        nvml, handle = ctypes.CDLL(NVML), ctypes.c_void_p()
        uuid = f"GPU-{torch.cuda.get_device_properties(device).uuid}".encode()
        if nvml.nvmlInit_v2() or nvml.nvmlDeviceGetHandleByUUID(uuid, ctypes.byref(handle)):
            return []
    except (OSError, AttributeError):  # no driver, or one without the function
        return []

    def count() -> float:
        millijoules = ctypes.c_ulonglong()
        if nvml.nvmlDeviceGetTotalEnergyConsumption(handle, ctypes.byref(millijoules)):
            raise OSError("NVML: no energy counter")  # before Volta
        return millijoules.value / 1000

    return [(count, 2.0**64 / 1000)]
