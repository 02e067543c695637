"""The forms that are timed layer by layer compute the same gradients, and the script says so on any device."""

import csv
import os
import subprocess
import sys

import pytest
import torch
from torch import nn

from bench import ROOT
from bench.speed.forms import FORMS
from bench.speed.layers import CHECKED, TINY, _gram_norms
from tests.dp.test_gradients import EXACT


@pytest.mark.parametrize(("n", "views", "layer"), [(*case, layer) for case, layers in TINY.items() for layer in layers])
def test_every_form_is_the_gradient_of_each_sample_alone(n, views, layer):
    module = nn.Conv2d(layer.channels, layer.out, layer.kernel, layer.stride, layer.kernel // 2, bias=False).double()
    torch.manual_seed(0)
    x = torch.randn(n * views, layer.channels, layer.size, layer.size, dtype=torch.float64)
    g = torch.randn_like(module(x))
    images = zip(x.split(views), g.split(views), strict=True)
    expected = torch.stack([torch.autograd.grad((module(x_i) * g_i).sum(), module.weight)[0] for x_i, g_i in images])
    with torch.no_grad():
        for name, form in FORMS.items():
            if name != "shifts" or layer.stride == 1:
                assert (form(module, x, g, n) - expected).norm() < EXACT * expected.norm(), name
        for chunk in (1, 2**20):
            norms = _gram_norms(module, x, g, n, chunk).sqrt()
            assert (norms - expected.flatten(1).norm(dim=1)).norm() < EXACT * norms.norm()


def test_the_script_writes_a_row_for_every_form(tmp_path):
    command = [sys.executable, "-m", "bench.speed.layers", "--tiny", "--out", str(tmp_path / "layers.csv")]
    subprocess.run(command, check=True, cwd=ROOT, capture_output=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    with (tmp_path / "layers.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {"copy", "product", "sum", *FORMS} < {row["form"] for row in rows}
    assert all(float(row["ms"]) > 0 for row in rows)
    for row in rows:  # bf16 operands added in float32 lose what float32 does; cuDNN's or oneDNN's grouped result is bf16
        if row["form"] in FORMS and not (row["form"] == "groups" and row["precision"] == "bf16"):
            assert float(row["error"]) < 64 * torch.finfo(torch.float32).eps  # roundings of at most 2 * 64 products in a row
    assert min(n for n, _ in TINY) >= CHECKED
