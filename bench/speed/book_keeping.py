"""FastDP's method, written anew from the paper: the package is not on PyPI."""

import torch
from opacus.grad_sample import GradSampleModule
from torch import nn
from torch.nn.functional import unfold

from bench.dp.optimizer import Optimizer, sample_losses, squared_norms


class BookKeeping:
    """Book-keeping with mixed norms (Bu et al. 2023, arXiv 2210.00038, algorithm 1; BK-MixOpt, FastDP's default).

    One backward pass for the gradients of all outputs, kept together with the inputs. A norm comes from Gram matrices of
    patches where 2 T^2 <= weights, T being the positions, and from per-sample gradients elsewhere, which are then kept.
    Layers without Gram norms, weight-standardised convolutions too, take Opacus' per-sample gradients.
    """

    def __init__(self, network: nn.Module, optimizer: Optimizer):
        self.network, self.optimizer = network, optimizer
        self.layers = [layer for layer in network.modules() if next(layer.parameters(recurse=False), None) is not None]

    def accumulate(self, images, labels, mask=None) -> torch.Tensor:
        uses = []  # (layer, input, output)
        hooks = [layer.register_forward_hook(lambda layer, x, y: uses.append((layer, *x, y))) for layer in self.layers]
        losses = sample_losses(self.network, images, labels, mask)
        for hook in hooks:
            hook.remove()
        gradients = torch.autograd.grad(losses.sum(), [output for *_, output in uses])
        with torch.no_grad():
            norms, formed, booked = [], [], []
            for (layer, x, _), g in zip(uses, gradients, strict=True):
                if type(layer) not in (nn.Conv2d, nn.Linear):
                    found = GradSampleModule.GRAD_SAMPLERS[type(layer)](layer, [x], g)
                    formed += [(p, of_views.unflatten(0, images.shape[:2]).sum(1)) for p, of_views in found.items()]
                    continue
                g, patches = _columns(g, len(images)), _patches(layer, x, len(images))
                if layer.bias is not None:
                    formed.append((layer.bias, g.sum(2)))
                if 2 * g.shape[2] ** 2 <= layer.weight.numel():
                    norms.append(torch.linalg.vecdot((patches.mT @ patches).flatten(1), (g.mT @ g).flatten(1)))
                    booked.append((layer, x, g))
                else:
                    formed.append((layer.weight, g @ patches.mT))
            squares = torch.stack([*norms, *(squared_norms(gradients) for _, gradients in formed)]).double().sum(0)
            factors = self.optimizer.clip_factors(squares, mask)
            for p, gradients in formed:
                p.summed_grad += (factors @ gradients.flatten(1)).view_as(p)
            for layer, x, g in booked:
                total = torch.einsum("not,nit->oi", g * factors.view(-1, 1, 1), _patches(layer, x, len(images)))
                layer.weight.summed_grad += total.view_as(layer.weight)
        return losses.sum().detach()


def _patches(layer: nn.Conv2d | nn.Linear, x: torch.Tensor, n: int) -> torch.Tensor:
    """The columns that the weight, seen as a matrix, is multiplied with: (n, in, K T)."""
    if isinstance(layer, nn.Conv2d):
        x = unfold(x, layer.kernel_size, layer.dilation, layer.padding, layer.stride)
    return _columns(x, n)


def _columns(tensor: torch.Tensor, n: int) -> torch.Tensor:
    """(n * K, C, ...) -> (n, C, K T), T positions in each of K views."""
    return tensor.reshape(n, len(tensor) // n, tensor.shape[1], -1).transpose(1, 2).flatten(2)
