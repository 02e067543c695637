import pytest

from bench.dp.rules import devices
from bench.dp.rules.cuda import Cuda


@pytest.fixture
def as_on_a_gpu(monkeypatch):
    """The engine takes the ways of a GPU, on a CPU."""
    kernels = Cuda()
    kernels.fuses = False  # Triton runs on a CPU only where a test interprets it
    monkeypatch.setitem(devices.KERNELS, "cpu", kernels)
    return kernels


@pytest.fixture(params=["cpu", "cuda"])
def ways(request):
    """The engine takes the ways of a CPU, then those of a GPU, on a CPU."""
    if request.param == "cuda":
        request.getfixturevalue("as_on_a_gpu")
    return request.param
