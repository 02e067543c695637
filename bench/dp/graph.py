"""The clipped sums of a physical batch as one CUDA graph: hundreds of launches at the cost of one.

Captured by hand, a graph a shape: torch.compile's graphs are captured anew at every step where it cannot follow the engine.
Noise, optimiser and the accumulation of sums stay outside. A graph reads and writes memory that stays where it is: the
parameters, which an optimiser changes in place, copies of the inputs, and outputs that are used up before the next replay.
"""

import warnings
from collections.abc import Callable
from functools import cache

import torch

from bench.dp.fast import Fast

Outputs = list[torch.Tensor]


class CudaGraph:
    """What `function`, without arguments, launches, to be replayed; RuntimeError where it cannot be captured."""

    def __init__(self, function: Callable[[], Outputs]):
        torch.cuda.empty_cache()  # the graph's memory is its own
        stream = torch.cuda.Stream()  # libraries set themselves up outside of a capture, on another than the default stream
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            function()
        torch.cuda.current_stream().wait_stream(stream)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph, pool=_pool()):  # which empties the cache again
            self.outputs = function()

    def replay(self) -> Outputs:
        """The outputs, which the next replay overwrites."""
        self.graph.replay()
        return self.outputs


@cache
def _pool() -> tuple:
    """Memory that all graphs of the process share: they run one after another, and what they give is used up between."""
    return torch.cuda.graph_pool_handle()


class Captured:
    """An engine (`bench.dp.gradients.Engine`) that runs `engine` as it is the first time it meets a shape, then from a graph.

    Where capturing fails it says so once and runs `engine` as it is from then on. Out of memory it forgets its graphs, since
    a smaller batch comes next.
    """

    def __init__(self, engine: Fast, graph: Callable[[Callable[[], Outputs]], CudaGraph] = CudaGraph):
        self.engine, self.optimizer, self.graph = engine, engine.optimizer, graph
        self.graphs: dict[tuple, tuple[Outputs, CudaGraph] | None] = {}  # inputs and graph of a shape; None: met once
        self.works = True

    def accumulate(self, images, labels, mask=None) -> torch.Tensor:
        given = [images, labels] if mask is None else [images, labels, mask]
        key = tuple((tensor.shape, tensor.dtype) for tensor in given)
        if self.works and key in self.graphs and self.graphs[key] is None:
            self._capture(key, given)
        if not self.works or key not in self.graphs:
            return self._as_it_is(key, given)
        inputs, graph = self.graphs[key]
        torch._foreach_copy_(inputs, given)
        loss, norms, *sums = graph.replay()
        self.optimizer.norms = (*self.optimizer.norms, norms.clone())
        torch._foreach_add_([p.summed_grad for p in self.optimizer.params], sums)
        return loss.clone()

    def _as_it_is(self, key: tuple, given: Outputs) -> torch.Tensor:
        try:
            loss = self.engine.accumulate(*given)
        except torch.OutOfMemoryError:
            self.graphs.clear()
            raise
        if self.works:
            self.graphs[key] = None
        return loss

    def _capture(self, key: tuple, given: Outputs) -> None:
        inputs = [tensor.clone() for tensor in given]

        def function() -> Outputs:
            before, self.optimizer.norms = self.optimizer.norms, ()
            try:
                loss, sums = self.engine.clipped(*inputs)
                return [loss, *self.optimizer.norms, *sums]
            finally:
                self.optimizer.norms = before

        try:
            self.graphs[key] = inputs, self.graph(function)
        except RuntimeError as error:  # torch's errors of CUDA, out of memory among them, are RuntimeErrors
            self.works = False
            self.graphs.clear()
            warnings.warn(f"without a CUDA graph, which could not be captured: {error}", stacklevel=2)
