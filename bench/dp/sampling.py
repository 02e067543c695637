"""Poisson sampling and the independent generators of a run."""

import hashlib

import torch

PURPOSES = ("weights", "batches", "augmentation", "noise")


def generator(seed: int, purpose: str, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator that depends on (seed, purpose) only, so that paired runs share every draw of that purpose.

    Good for benchmarking; a model to be released needs a cryptographic source of noise.
    """
    if purpose not in PURPOSES:
        raise ValueError(f"unknown purpose {purpose!r}; known: {', '.join(PURPOSES)}")
    digest = hashlib.sha256(f"scalenorm-bench {seed} {purpose}".encode()).digest()
    return torch.Generator(device=device).manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def poisson_batch(size: int, rate: float, generator: torch.Generator) -> torch.Tensor:
    """Indices (n,) int64 of one batch: each of `size` samples is in it with probability `rate`, independently.

    n varies and may be 0; an empty batch is a step like any other (noise alone). Drawn in float64, whose 53 bits make
    the rate exact for accounting (Abadi et al. 2016, section 3.1; Mironov et al. 2019).
    """
    return torch.nonzero(torch.rand(size, generator=generator, dtype=torch.float64) < rate).flatten()
