"""Random draws of a run: Poisson batches, noise, and the streams behind them, each a function of what it is for.

Pairing rests on this: what two variants share, batches, augmentation, a parameter's noise, is drawn from a stream of its own
at every step, so that nothing else that one of them draws can shift it. No stream has a state that a checkpoint must keep.
Good for benchmarking; a model to be released needs a cryptographic source of noise.
"""

import hashlib

import numpy as np
import torch

PURPOSES = ("weights", "batches", "augmentation", "noise")


def stream(seed: int, purpose: str, *what: int | str) -> np.random.Generator:
    """A stream that depends on (seed, purpose, what) only; ValueError for an unknown purpose.

    Philox, a counter-based generator (Salmon et al. 2011), with 128 bits of a SHA-256 as its key: two streams of all that a
    suite ever draws have the same key with a probability below 1e-20, and are independent otherwise.
    """
    return np.random.Generator(np.random.Philox(key=int.from_bytes(_digest(seed, purpose, *what)[:16], "big")))


def generator(seed: int, purpose: str) -> torch.Generator:
    """A generator of torch's on the CPU for (seed, purpose), for initial weights; ValueError for an unknown purpose."""
    return torch.Generator().manual_seed(_key(seed, purpose))


def noise(seed: int, step: int, name: str, like: torch.Tensor) -> torch.Tensor:
    """Standard normal noise shaped like parameter `like`, by (seed, step, name) and its kind of device alone."""
    if like.device.type == "cpu":
        dtype = np.float64 if like.dtype == torch.float64 else np.float32
        return torch.from_numpy(np.asarray(stream(seed, "noise", step, name).standard_normal(like.shape, dtype=dtype)))
    source = torch.Generator(like.device).manual_seed(_key(seed, "noise", step, name))  # Philox as well: one launch
    return torch.empty_like(like).normal_(generator=source)


def poisson_batch(size: int, rate: float, source: np.random.Generator) -> torch.Tensor:
    """Indices (n,) int64 of one batch: each of `size` samples is in it with probability `rate`, independently.

    n varies and may be 0; an empty batch is a step like any other (noise alone). Drawn in float64, whose 53 bits make
    the rate exact for accounting (Abadi et al. 2016, section 3.1; Mironov et al. 2019).
    """
    return torch.from_numpy(np.flatnonzero(source.random(size) < rate))


def _digest(seed: int, purpose: str, *what: int | str) -> bytes:
    if purpose not in PURPOSES:
        raise ValueError(f"unknown purpose {purpose!r}; known: {', '.join(PURPOSES)}")
    return hashlib.sha256(" ".join(map(str, ("scalenorm-bench", seed, purpose, *what))).encode()).digest()


def _key(seed: int, purpose: str, *what: int | str) -> int:
    """63 bits, what torch's generators take everywhere."""
    return int.from_bytes(_digest(seed, purpose, *what)[:8], "big") >> 1
