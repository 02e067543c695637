"""Where the host waits for a device: what reads a tensor's values, and copies between devices that block."""

from collections.abc import Callable

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

READS = {"_local_scalar_dense", "is_nonzero", "nonzero", "masked_select", "equal", "_unique2", "bincount"}


class Waits(TorchDispatchMode):
    """Lists the operations that wait for a device of kind `device`; on a CPU, where none does, those that would on a GPU.

    The tensors of `host()` are on the CPU whatever the device.
    """

    def __init__(self, device: str, host: Callable[[], list[torch.Tensor]] = list):
        super().__init__()
        self.device, self.host, self.found = device, host, []

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        out = operation(*args, **kwargs)
        name = operation._schema.name.split("::")[1]
        tensors = [leaf for leaf in tree_leaves((args, out)) if isinstance(leaf, torch.Tensor)]
        here = any(tensor.device.type == self.device for tensor in tensors)
        by_mask = name.startswith("index") and any(t.dtype == torch.bool for t in tree_leaves(args[1]) if t is not None)
        crosses = name in ("_to_copy", "copy_") and len({tensor.device.type for tensor in tensors}) > 1
        blocks = crosses and not (kwargs.get("non_blocking") or (name == "copy_" and len(args) > 2 and args[2]))
        if here and (name in READS or by_mask or blocks) and not any(args[0] is tensor for tensor in self.host()):
            self.found.append(name)
        return out

    def leave_out(self, function: Callable) -> Callable:
        def call(*arguments):
            before = len(self.found)
            result = function(*arguments)
            del self.found[before:]
            return result

        return call
