"""`python -m bench.speed.layers --out FILE`: what each form of a convolution's per-sample gradients takes on this device.

A row is written as soon as it is known: layer, form, precision, memory format, milliseconds, and how far the gradients are
from float64 (of their operands, so that what bf16 rounds beforehand does not count). Before the layers come the device's
ceilings: a copy in GB/s and matrix products in TFLOP/s. `--seconds` ends it in time.
"""

import argparse
import csv
import itertools
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from bench.dp.rules.gram import gram_norms, patch_gram
from bench.speed.forms import FORMS
from bench.speed.table import device_name

COLUMNS = ("device", "layer", "samples", "views", "form", "precision", "format", "ms", "per_second", "error")
REPEATS, CHECKED = 5, 2  # timed calls after two for warmth; samples whose gradients are formed in float64
CHUNKS = [2**power for power in (20, 21, 22, 23, 24, 26)]  # elements of Gram matrices formed together
DTYPES = {"float32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16}


class Layer(NamedTuple):
    channels: int
    out: int
    size: int  # of the image
    kernel: int = 3
    stride: int = 1

    def __str__(self) -> str:
        return f"{self.channels}-{self.out}@{self.size}/{self.kernel}x{self.kernel}" + f"s{self.stride}" * (self.stride > 1)

    def built(self, device: torch.device) -> nn.Conv2d:
        padding = self.kernel // 2
        return nn.Conv2d(self.channels, self.out, self.kernel, self.stride, padding, bias=False, device=device)


# (samples, views) -> layers: those of ResNet-9, width 64, and of WRN-16-4 with and without views; and a rehearsal's
REAL = {
    (512, 1): [Layer(3, 64, 32), Layer(64, 128, 32), Layer(128, 128, 16), Layer(128, 256, 16), Layer(256, 256, 8)],
    (32, 16): [Layer(16, 64, 32), Layer(64, 64, 32), Layer(64, 128, 32, stride=2), Layer(128, 128, 16), Layer(256, 256, 8)],
}
TINY = {(4, 1): [Layer(3, 8, 8), Layer(8, 8, 8)], (2, 2): [Layer(8, 16, 8, stride=2), Layer(8, 16, 8, kernel=1)]}


def ceilings(device: torch.device, size: int) -> list[dict]:
    """A copy of size^2 floats, products of size x size matrices in each precision; per_second in 1e9 bytes or 1e12 flops."""
    a = torch.randn(size, size, device=device)
    b = torch.empty_like(a)
    rows = [_row("copy", "float32", milliseconds(lambda: b.copy_(a)), 2 * a.nbytes / 1e9)]
    for precision, dtype in DTYPES.items():
        if precision == "tf32" and device.type != "cuda":
            continue
        torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
        x = a.to(dtype)
        rows.append(_row("product", precision, milliseconds(lambda x=x: x @ x), 2 * size**3 / 1e12))
    torch.backends.cuda.matmul.allow_tf32 = False
    return rows


def timed(layer: Layer, n: int, views: int, device: torch.device):
    """A row for every form, precision and memory format of one layer; one that fails says so in place of milliseconds."""
    module = layer.built(device)
    for precision, form in itertools.product(("float32", "bf16"), ("nchw", "nhwc")):
        torch.manual_seed(0)
        x = torch.randn(n * views, layer.channels, layer.size, layer.size, device=device).to(DTYPES[precision])
        g = torch.randn_like(module(x.float())).to(x)
        if form == "nhwc":
            x, g = (t.contiguous(memory_format=torch.channels_last) for t in (x, g))
        exact = FORMS["windows"](module, *(t[: CHECKED * views].double() for t in (x, g)), CHECKED)
        calls = {"sum": lambda x=x, g=g: _sum(module, x, g)}
        for name, of in FORMS.items():
            if name != "shifts" or layer.stride == 1:
                calls[name] = lambda of=of, x=x, g=g: of(module, x, g, n)
        if precision == "float32" and form == "nchw":
            for chunk in CHUNKS:
                calls[f"gram-{chunk}"] = lambda chunk=chunk, x=x, g=g: _gram_norms(module, x, g, n, chunk)
        for name, call in calls.items():
            row = {"layer": str(layer), "samples": n, "views": views, "format": form}
            try:
                found = call()
                error = _error(found[:CHECKED], exact) if name in FORMS else None
                if name.startswith("gram"):
                    error = _error(found[:CHECKED].sqrt(), exact.flatten(1).norm(dim=1))
                row |= _row(name, precision, milliseconds(call)) | {"error": error}
            except RuntimeError as problem:
                row |= _row(name, precision, str(problem).splitlines()[0][:60])
            yield row


def milliseconds(call: Callable[[], object]) -> float:
    """Median of REPEATS calls."""

    def once() -> float:
        start = time.perf_counter()
        call()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return 1e3 * (time.perf_counter() - start)

    return statistics.median([once() for _ in range(2 + REPEATS)][2:])


def _row(form: str, precision: str, ms: float | str, amount: float | None = None) -> dict:
    return {"form": form, "precision": precision, "ms": ms, "per_second": amount and 1e3 * amount / ms}


def _sum(module: nn.Conv2d, x: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
    """The gradient that is not private, for comparison."""
    more = (None, module.stride, module.padding, (1, 1), False, (0, 0), 1, (False, True, False))
    return torch.ops.aten.convolution_backward(g, x, module.weight.to(x), *more)[1]


def _gram_norms(module: nn.Conv2d, x: torch.Tensor, g: torch.Tensor, n: int, chunk: int) -> torch.Tensor:
    """Squared norms from Gram matrices, of so many samples at a time that the matrices have about `chunk` elements."""
    views = len(x) // n
    count = max(1, chunk // (views * g[0, 0].numel()) ** 2) * views
    outputs = (part.unflatten(0, (-1, views)).transpose(1, 2).flatten(2) for part in g.split(count))
    parts = zip(x.split(count), outputs, strict=True)
    return torch.cat([gram_norms(patch_gram(module, x_i, len(g_i)), g_i.mT @ g_i) for x_i, g_i in parts])


def _error(found: torch.Tensor, exact: torch.Tensor) -> float:
    """The largest of the samples, relative."""
    found, exact = found.double().reshape(CHECKED, -1), exact.reshape(CHECKED, -1)
    return ((found - exact).norm(dim=1) / exact.norm(dim=1)).max().item()


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.speed.layers", description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="start no further layer after so long")
    parser.add_argument("--tiny", action="store_true", help="a rehearsal: small layers, few samples")
    options = parser.parse_args()
    end = time.monotonic() + options.seconds
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with options.out.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()

        def keep(rows) -> None:
            for row in rows:
                told = {key: f"{value:.4g}" if isinstance(value, float) else value for key, value in row.items()}
                writer.writerow({"device": device_name(device)} | told)
                file.flush()

        highest = ceilings(device, 256 if options.tiny else 8192)
        keep(highest)
        names = ("copy, GB/s", *(f"{row['precision']}, TFLOP/s" for row in highest[1:]))
        told = zip(names, highest, strict=True)
        print("ceilings: " + "; ".join(f"{name} {row['per_second']:.3g}" for name, row in told), flush=True)
        for (n, views), layers in (TINY if options.tiny else REAL).items():
            for layer in layers:
                if time.monotonic() > end:
                    print(f"{layer}: left out, no time", flush=True)
                    continue
                keep(timed(layer, n, views, device))
                print(f"{layer}, {n} samples of {views} views", flush=True)


if __name__ == "__main__":
    main()
