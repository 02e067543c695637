"""What a configuration may name, and where the code of each name stands. No torch: a plan refuses what is not here.

A new norm, data set source or engine is a line in one of these tables (a network family, with its facts, in
`bench.plan.families`). It imports nothing.
"""

from importlib import import_module
from typing import Any

# name -> 'module:function', (channels, bench.plan.spec.Norm) -> module
NORMS = {
    "group": "bench.models.norms:group",
    "layer": "bench.models.norms:group",  # of one group
    "instance": "bench.models.norms:instance",
    "batch": "bench.models.norms:batch",
    "none": "bench.models.norms:none",
}
# name -> 'module:function', an entry of `datasets` -> (tensors, whether a publisher's archive was verified, counts of files)
SOURCES = {
    "digits": "bench.data.digits:read",
    "cifar10": "bench.data.cifar10:read",
    "imagenette": "bench.data.imagenette:read",
    "image_folder": "bench.data.image_folder:read",
}
# name -> 'module:class', see bench.dp.gradients.Engine
ENGINES = {
    "fast": "bench.dp.fast:Fast",
    "opacus": "bench.dp.gradients:OpacusHooks",
}


def provided(place: str) -> Any:
    """What stands at 'module:attribute'."""
    module, _, attribute = place.partition(":")
    return getattr(import_module(module), attribute)
