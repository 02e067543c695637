import pytest

from bench.dp.rules import devices
from bench.dp.rules.cuda import Cuda


@pytest.fixture
def as_on_a_gpu(monkeypatch):
    """The engine takes the ways of a GPU, on a CPU."""
    monkeypatch.setitem(devices.KERNELS, "cpu", Cuda())


@pytest.fixture(params=["cpu", "cuda"])
def ways(request):
    """The engine takes the ways of a CPU, then those of a GPU, on a CPU."""
    if request.param == "cuda":
        request.getfixturevalue("as_on_a_gpu")
    return request.param
