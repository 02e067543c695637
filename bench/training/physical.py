"""Physical batches: in which pieces a logical batch goes through the network, and how many samples a GPU has room for."""

import math
import re
from collections.abc import Callable, Iterator

import torch
from torch.nn.functional import pad

PROBE = 8  # samples of the steps that measure the memory of one
SHARE = 0.8  # of what is free: the rest is for fragments, for workspaces that larger batches choose, and for evaluation
# What CUDA, cuBLAS, cuDNN and a CPU's allocator say besides OutOfMemoryError where memory is short: a handle, a workspace or
# a plan found none.
SHORT_OF_MEMORY = re.compile(
    r"CUDA error: out of memory|CUBLAS_STATUS_(ALLOC_FAILED|NOT_INITIALIZED)"
    r"|CUDNN_STATUS_(ALLOC_FAILED|NOT_INITIALIZED|INTERNAL_ERROR)|CUDNN_STATUS_\w*ALLOCATION_FAILED"
    r"|valid cuDNN algorithm|unable to find an engine"
    r"|DefaultCPUAllocator: (can't allocate|not enough) memory"
)


def shapes(expected: float, most: int) -> tuple[int, ...]:
    """The sizes, at most four, of all physical batches of a run whose logical batches are Poisson of size `expected`.

    Few, since a GPU chooses kernels, and records graphs, for every shape anew. A logical batch fills as many of the largest
    as it can, each of at most `most` samples; the rest is padded to the next size. Steps between sizes are a power of two of
    at least two standard deviations, 64 at 1,024. Padding is 6.4 % of the samples at an expected size of 256, 3.2 % at
    1,024 and 1.6 % at 4,096 (20,000 simulated batches each, all in one physical batch).
    """
    deviation = math.sqrt(expected)
    unit = 2 ** max(math.ceil(math.log2(2 * deviation)), 0)
    if most < unit:
        return (most,)
    top = unit * math.ceil((expected + 4 * deviation) / unit)
    count = math.ceil(top / (most // unit * unit))
    largest = unit * math.ceil(top / count / unit)
    rest = top - (count - 1) * largest
    return tuple(sorted({largest, *(size for size in (rest, rest - unit, rest - 2 * unit) if size > 0)}))


def split(batch: torch.Tensor, draws: torch.Tensor | None, most: int, sizes: tuple[int, ...] = ()) -> Iterator[tuple]:
    """(indices, draws, mask) of the physical batches of a logical batch (n,).

    Without `sizes` they are as few as possible, of at most `most` samples and equal size but for one, without masks. With
    sizes, as `shapes` gives them, each has one of those: samples that only fill it up have mask 0.
    """
    if not len(batch):
        return
    if not sizes:
        count = math.ceil(len(batch) / most)
        parts = draws.tensor_split(count) if draws is not None else [None] * count
        yield from zip(batch.tensor_split(count), parts, [None] * count, strict=True)
        return
    for start in range(0, len(batch), sizes[-1]):
        end = min(start + sizes[-1], len(batch))
        size = next(size for size in sizes if size >= end - start)
        padding = start + size - end
        mask = (torch.arange(size, device=batch.device) < end - start).float()
        draw = draws if draws is None else pad(draws[start:end], (0, 0, 0, 0, 0, padding))
        yield pad(batch[start:end], (0, padding)), draw, mask


def short_of_memory(error: RuntimeError) -> bool:
    """Whether a smaller batch may help."""
    return isinstance(error, torch.OutOfMemoryError) or bool(SHORT_OF_MEMORY.search(str(error)))


def room(step: Callable[[int], None], device: torch.device, most: int, runs_per_gpu: int) -> int:
    """Samples, from 1 to `most`, that the GPU has room for, by what `step(n)`, a step of n samples, takes of it.

    `most` where the allocator counts nothing (cudaMallocAsync).
    """
    samples = min(PROBE, most)
    try:
        peak_of(step, samples, device)  # the first one also makes handles and workspaces, which later ones find
        peak = peak_of(step, samples, device)
    except RuntimeError as error:
        if not short_of_memory(error):
            raise
        return max(1, samples // 2)
    if not peak:
        return most
    return max(1, min(most, int(SHARE * free(device, runs_per_gpu) * samples / peak)))


def peak_of(step: Callable[[int], None], samples: int, device: torch.device) -> int:
    """Bytes on the device that `step(samples)` takes at its most, beside what is there already."""
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    step(samples)
    return torch.cuda.max_memory_allocated(device) - before


def free(device: torch.device, runs_per_gpu: int) -> float:
    """Bytes that a run may still take: what is free, what its allocator holds unused, and no more than its share."""
    available, total = torch.cuda.mem_get_info(device)
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return min(available + unused, total / runs_per_gpu)
