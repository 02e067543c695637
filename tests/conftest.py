import copy

import pytest
import torch

from bench.plan import config, resolve

# torch has products of bf16 numbers in float32 for GPUs only; of a CPU's tests, too, now: exact products, float32 sums
PRODUCTS = torch.library.Library("aten", "IMPL")
PRODUCTS.impl("bmm.dtype", lambda a, b, out_dtype: a.to(out_dtype) @ b.to(out_dtype), "CPU")
PRODUCTS.impl("bmm.dtype_out", lambda a, b, out_dtype, *, out: out.copy_(a.to(out_dtype) @ b.to(out_dtype)), "CPU")


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    torch.set_num_threads(1)  # the suite runs a process a core


@pytest.fixture(scope="session")
def _shipped():
    return config.load(config.ROOT / "config.yaml", local=False)


@pytest.fixture
def shipped(_shipped):
    """The shipped configuration, free to be changed."""
    return copy.deepcopy(_shipped)


@pytest.fixture
def quick(shipped):
    """The runs of study quick, by id, at a size that tests can count: 4 variants, 3 epsilons, 3 seeds."""
    shipped["studies"]["quick"] |= {"epsilons": [3, 8, float("inf")], "seeds": 3}
    return {run.id: run for run in resolve.studies_of(shipped)["quick"].runs}
