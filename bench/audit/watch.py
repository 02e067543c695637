"""A game played by the shipped loop, stopped once and continued, and what an auditor with every access sees of it.

Of each step the auditor takes the released gradient, the weights before it and who was in the batch. From these follows by
plain autograd, sample by sample in float64, the clipped sum that ought to be in it, and hence the noise that is in it.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.func import functional_call, grad, vmap
from torch.nn.functional import cross_entropy

from bench.audit import game as games
from bench.audit.game import OTHERS, Game
from bench.training import loop
from bench.training.checkpoint import Checkpoint
from bench.training.trainer import Trainer

AT_ONCE = 128  # samples whose gradients are in memory at once


@dataclass(frozen=True, kw_only=True)
class Seen:
    """All of a game that the statistics need; T steps, d parameters, m canaries, N samples."""

    residuals: np.ndarray  # (T, d): B times the released gradient, less the exact clipped sum
    sums: np.ndarray  # (T, d): the exact clipped sum
    scores: np.ndarray  # (T, m): the released sum along each canary's own gradient, in units of C
    drawn: np.ndarray  # (T, N) bool
    present: np.ndarray  # (m,) bool: the coins
    tensors: dict[str, slice]  # of the d parameters
    privacy: dict  # what the record claims


class Watched(Trainer):
    """The shipped trainer on the game's network and images, with every step told to a witness."""

    def __init__(self, game: Game, witness: "Witness", *arguments):
        self.game, self.witness = game, witness
        super().__init__(*arguments)

    def _network(self, channels: int) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.run.seed)
            return games.Network()

    def _views(self, part: torch.Tensor, draws: torch.Tensor | None) -> torch.Tensor:
        views = super()._views(part, draws).repeat(1, self.run.setting("views"), 1, 1, 1)
        views[self.game.absent.to(part.device)[part]] = torch.nan  # zeroed out
        return views

    def _accumulate(self, batch: torch.Tensor, draws: torch.Tensor | None) -> torch.Tensor:
        self.witness.before(self.network, batch)
        return super()._accumulate(batch, draws)

    def take_step(self) -> None:
        super().take_step()
        self.witness.after(self.optimizer.params)


class Witness:
    """Collects a game, step by step."""

    def __init__(self, game: Game):
        self.game, self.clip_norm, self.batch_size = game, game.run.recipe["clip_norm"], game.run.recipe["batch_size"]
        self.network = games.Network().double()
        self.images = game.dataset.normalise(game.dataset.train_images, torch.float64)
        self.steps: list[tuple] = []  # (residual, sum, scores, drawn)

    def before(self, network: nn.Module, batch: torch.Tensor) -> None:
        self.network.load_state_dict(network.state_dict())
        self.batch = batch
        self.exact = self._clipped_sum(batch[~self.game.absent[batch]])
        self.directions = self._directions()

    def after(self, parameters: list[nn.Parameter]) -> None:
        released = [self.batch_size * p.grad.cpu().double() for p in parameters]
        columns = released[-1][:, games.SIZE**2 :][:, : games.CANARIES]  # of the layer that reads all pixels
        scores = (columns * self.directions).sum(0) / self.clip_norm
        flat = torch.cat([gradient.flatten() for gradient in released])
        drawn = torch.zeros(self.game.size, dtype=torch.bool)
        drawn[self.batch] = True
        self.steps.append(tuple(t.numpy() for t in (flat - self.exact, self.exact, scores, drawn)))

    @torch.no_grad()
    def _directions(self) -> torch.Tensor:
        """(CLASSES, m): each canary's gradient in its own column, of length 1; it is BRIGHT times the logits' gradient."""
        logits = self.network(torch.zeros_like(self.images[:1])) + games.BRIGHT * self._canary_columns().T
        gradient = logits.softmax(1)
        gradient[torch.arange(games.CANARIES), self.game.dataset.train_labels[OTHERS:]] -= 1
        return (gradient / gradient.norm(dim=1, keepdim=True)).T

    def _canary_columns(self) -> torch.Tensor:
        return self.network.pixels.weight[:, games.SIZE**2 :][:, : games.CANARIES]

    def _clipped_sum(self, samples: torch.Tensor) -> torch.Tensor:
        """(d,): sum_i min(1, C / ||g_i||) g_i, the definition; equal views of an image have the gradient of one."""
        parameters = {name: p.detach() for name, p in self.network.named_parameters()}

        def loss(weights, image, label):
            return cross_entropy(functional_call(self.network, weights, (image[None],)), label[None])

        totals = {name: torch.zeros_like(p) for name, p in parameters.items()}
        labels = self.game.dataset.train_labels
        for part in samples.split(AT_ONCE):
            gradients = vmap(grad(loss), (None, 0, 0))(parameters, self.images[part], labels[part])
            norms = sum(g.reshape(len(part), -1).square().sum(1) for g in gradients.values()).sqrt()
            factors = (self.clip_norm / norms).clamp(max=1)
            for name, g in gradients.items():
                totals[name] += torch.tensordot(factors, g, 1)
        return torch.cat([total.flatten() for total in totals.values()])

    def seen(self, record: dict) -> Seen:
        parts = dict(zip(("residuals", "sums", "scores", "drawn"), map(np.stack, zip(*self.steps, strict=True)), strict=True))
        tensors, start = {}, 0
        for name, p in self.network.named_parameters():
            tensors[name] = slice(start, start + p.numel())
            start += p.numel()
        return Seen(**parts, present=self.game.present.numpy(), tensors=tensors, privacy=record["privacy"])


def play(game: Game, engine: str, device: str = "cpu") -> Seen:
    """Trains the game to its end by `bench.training.loop`, in two parts with a checkpoint between them.

    The auditor computes on the CPU, whatever `device` trains.
    """
    witness, machine = Witness(game), games.MACHINE | {"engine": engine, "device": device}

    def make(*arguments) -> Trainer:
        return Watched(game, witness, *arguments)

    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Checkpoint(game.run, game.noise_multiplier, Path(folder), game.dataset.digest)
        arguments = (game.run, game.dataset, game.noise_multiplier, machine)
        try:
            loop.train(*arguments, checkpoint=checkpoint, stop=lambda: len(witness.steps) >= games.STEPS // 2, make=make)
            raise AssertionError("the loop did not stop when it was asked to")
        except loop.Stopped:
            return witness.seen(loop.train(*arguments, checkpoint=checkpoint, make=make))
