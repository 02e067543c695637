"""Energy counters, from files like those of the kernel."""

import ctypes
import types

import pytest
import torch

from bench.training import energy

CPU = torch.device("cpu")


@pytest.fixture
def powercap(tmp_path, monkeypatch):
    """Two packages, the cores of one and the whole machine (psys), each with its counter in microjoules."""
    monkeypatch.setattr(energy, "POWERCAP", tmp_path)
    zones = {"0": ("package-0", 100), "1": ("package-1", 200), "0:0": ("core", 7), "2": ("psys", 999)}
    for number, (name, joules) in zones.items():
        zone = tmp_path / f"intel-rapl:{number}"
        zone.mkdir()
        (zone / "name").write_text(f"{name}\n")
        (zone / "energy_uj").write_text(f"{joules * 10**6}\n")
        (zone / "max_energy_range_uj").write_text(f"{1000 * 10**6}\n")

    def set_to(**joules):
        for number, value in joules.items():
            (tmp_path / f"intel-rapl:{number[1:]}" / "energy_uj").write_text(f"{round(value * 10**6)}\n")

    return set_to


def test_packages_are_added_and_their_parts_are_not(powercap):
    meter = energy.Meter(CPU)
    assert meter.read() == 0
    powercap(_0=110.5, _1=202)
    assert meter.read() == pytest.approx(12.5)
    assert meter.read() == pytest.approx(12.5)


def test_a_counter_that_starts_anew(powercap):
    meter = energy.Meter(CPU)
    powercap(_0=990)
    assert meter.read() == pytest.approx(890)
    powercap(_0=20)
    assert meter.read() == pytest.approx(920)


def test_a_run_that_goes_on_counts_what_it_used_before_and_not_the_time_between(powercap):
    before = energy.Meter(CPU)
    powercap(_0=150)
    used = before.read()
    powercap(_0=400)
    after = energy.Meter(CPU)
    after.resume(used)
    powercap(_0=430)
    assert after.read() == pytest.approx(80)
    after.resume(None)  # the first part was on a machine that could not say
    assert after.read() is None


@pytest.mark.parametrize("damage", [lambda f: f.unlink(), lambda f: f.write_text("?")])
def test_what_cannot_be_read_is_not_recorded(powercap, tmp_path, damage):
    file = tmp_path / "intel-rapl:1" / "energy_uj"
    meter = energy.Meter(CPU)
    damage(file)
    assert meter.read() is None
    assert energy.Meter(CPU).read() is None


def test_no_counters_at_all(tmp_path, monkeypatch):
    monkeypatch.setattr(energy, "POWERCAP", tmp_path / "none")
    assert energy.Meter(CPU).read() is None
    monkeypatch.setattr(energy, "NVML", "libno-such-library.so")
    assert energy.Meter(torch.device("cuda")).read() is None


def test_a_gpu_is_found_by_its_uuid(monkeypatch):
    """Against a stand-in for NVML with a counter of millijoules that rises by 2,500 at every look."""
    asked, counter = [], iter(range(10_000, 100_000, 2500))

    def energy_of(handle, out):
        out._obj.value = next(counter)
        return 0

    nvml = types.SimpleNamespace(
        nvmlInit_v2=lambda: 0,
        nvmlDeviceGetHandleByUUID=lambda uuid, handle: asked.append(uuid) or 0,
        nvmlDeviceGetTotalEnergyConsumption=energy_of,
    )
    monkeypatch.setattr(ctypes, "CDLL", lambda name: nvml)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: types.SimpleNamespace(uuid="12-34"))
    meter = energy.Meter(torch.device("cuda"))
    assert asked == [b"GPU-12-34"]
    assert meter.read() == pytest.approx(2.5)
    nvml.nvmlDeviceGetTotalEnergyConsumption = lambda handle, out: 3  # NVML_ERROR_NOT_SUPPORTED
    assert meter.read() is None


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")
def test_the_counter_of_a_real_gpu_rises():
    try:
        ctypes.CDLL(energy.NVML)
    except OSError:
        pytest.skip(f"no {energy.NVML}: not NVIDIA's driver")
    meter = energy.Meter(torch.device("cuda"))
    x = torch.randn(4096, 4096, device="cuda")
    for _ in range(200):
        x = torch.tanh(x @ x)
    torch.cuda.synchronize()
    assert meter.read() > 0
