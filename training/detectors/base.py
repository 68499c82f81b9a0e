"""What a detector is: the contract between networks, losses and everything that trains or evaluates them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from common.errors import WeightsError
from training.batch import Batch, DataInfo
from training.config.schema import Config as RunConfig
from training.detectors.form import Form
from training.loss.classification import cross_entropy, fake_probability
from training.networks.pretrained import local_trunk
from training.networks.states import NOT_THEIRS
from training.networks.weights import State, assign_state, read_state, unwrap_state, without_shared_prefix

if TYPE_CHECKING:
    from training.batch import DataInfo

Prediction = dict[str, Tensor]
Losses = dict[str, Tensor]
# The loss, beside `overall`, that an adversary lowers: see `Detector.adversary_groups`.
ADVERSARY = "adversary"


@dataclass(frozen=True)
class DetectorCard:
    """What a reader wants to know first.

    Attributes:
        title: the detector's name in the literature.
        kind: `naive`, `spatial`, `frequency`, `video` … as the benchmark sorts them.
        paper: title of the paper. year: of its publication. url: where it is.
        parity: what the agreement with the reference implementation rests on; empty when there is none.
    """

    title: str
    kind: str
    paper: str
    year: int
    url: str
    parity: str = ""


@dataclass(frozen=True)
class Clock:
    """Where training is. `step` counts optimiser steps from 0."""

    step: int
    total_steps: int
    steps_per_epoch: int

    @property
    def epoch(self) -> int:
        """The epoch that this step belongs to, from 0."""
        return self.step // max(1, self.steps_per_epoch)

    @property
    def progress(self) -> float:
        """How much of training is done, in [0, 1]."""
        return min(1.0, self.step / max(1, self.total_steps))


class Detector(nn.Module):
    """Base of all detectors.

    A subclass builds its parts in `__init__`, and defines `forward` and `get_losses`. Its state dict need not have the
    names of published checkpoints: `convert_keys` translates.
    """

    Config: ClassVar[type[RunConfig]] = RunConfig
    name: ClassVar[str] = ""
    card: ClassVar[DetectorCard]
    # Regular expressions of keys that exist for training only, and that a published checkpoint may lack ...
    training_only: ClassVar[tuple[str, ...]] = ()
    # ... and of keys of published checkpoints that no computation of the detector uses.
    unused_keys: ClassVar[tuple[str, ...]] = ()
    # Whether a step may leave out parameters that train; a detector of several phases says so by its configuration.
    find_unused_parameters: bool = False

    mean: Tensor
    std: Tensor

    def __init__(self, config: RunConfig, data_info: DataInfo | None = None, pretrained: bool = True):
        super().__init__()
        self.config = config
        self.data_info = data_info
        self.register_buffer("mean", torch.tensor(config.mean).view(3, 1, 1) * 255, persistent=False)
        self.register_buffer("std", torch.tensor(config.std).view(3, 1, 1) * 255, persistent=False)

    @property
    def device(self) -> torch.device:
        """Where the detector lives."""
        return self.mean.device

    def prepare(self, batch: Batch) -> Batch:
        """Return the batch on the detector's device, its uint8 images normalised; float images pass as they are.

        A detector that needs more than the image derives it here (LRL's DCT image), so that training, evaluation,
        prediction and export do the same.
        """
        ready = {
            key: value.to(self.device, non_blocking=True) if isinstance(value, Tensor) else value
            for key, value in batch.items()
        }
        if "image" in ready and ready["image"].dtype == torch.uint8:
            ready["image"] = (ready["image"].float() - self.mean) / self.std
        return ready

    def forward(self, batch: Batch, inference: bool = False) -> Prediction:
        """Return `cls` (as the paper returns it), `prob` `(B,)` in [0, 1], `feat` `(B, …)`, and the detector's own.

        With `inference` nothing but the image and what `prepare` derives from it is read.
        """
        raise NotImplementedError

    def get_losses(self, batch: Batch, prediction: Prediction) -> Losses:
        """Return `overall`, a differentiable scalar, and its named parts, raw: `summed` makes the one of the others."""
        raise NotImplementedError

    def loss_weights(self) -> dict[str, float]:
        """Return what parts of the loss weigh in `overall`, where it is not 1."""
        return {}

    def shares(self, parts: Losses) -> Losses:
        """Return, by name, what each part adds to `overall`; the record of a run shows it beside the raw parts."""
        weights = {ADVERSARY: 0.0} | self.loss_weights()
        return {name: weights[name] * value if name in weights else value for name, value in parts.items()}

    def summed(self, parts: Losses) -> Losses:
        """Return the parts, and before them `overall`, the sum of their shares."""
        first, *others = self.shares(parts).values()
        for value in others:
            first = first + value
        return {"overall": first, **parts}

    @property
    def caches_features(self) -> bool:
        """Whether training is to run on features that `frozen_features` makes once of every frame. The base has none."""
        return False

    def frozen_features(self, batch: Batch) -> Tensor:
        """Return what a part that never trains makes of a prepared batch's images, `(B, D)`.

        A detector that has such a part takes `batch["frozen"]` instead of the image where it is given.
        """
        raise NotImplementedError

    @classmethod
    def local_weights(cls, config: RunConfig) -> Path | None:
        """Return the file on this machine that `pretrained` means for this detector's trunk; None when there is none."""
        return local_trunk(config.pretrained) if config.pretrained else None

    @classmethod
    def weights_file(cls, config: RunConfig) -> str:
        """Return the name under which `training/pretrained/` should hold that file."""
        return f"{config.pretrained}.safetensors"

    def convert_keys(self, state: State) -> State:
        """Return a published checkpoint's state under this detector's names. The base knows none."""
        return state

    def load_weights(self, state_or_path: State | str | os.PathLike, strict: bool = True) -> None:
        """Load our own, DeepfakeBench's or the original's weights; never a part of them in silence.

        Args:
            state_or_path: a state dict, a checkpoint that holds one, or a file.
            strict: False lets training-only parts and everything else be missing, but shapes and names must fit.

        Raises:
            WeightsError: the file cannot be read, or belongs to another network; the detector is as it was.
        """
        if isinstance(state_or_path, str | os.PathLike):
            name, state = str(state_or_path), read_state(state_or_path)
        else:
            name, state = "the given state", unwrap_state(state_or_path)
        state = without_shared_prefix(self.state_dict(), state, self.convert_keys)
        form = Form(self)
        try:
            try:
                self.adapt_to(state)
            except NOT_THEIRS:  # a state of another network, which is told what it lacks below
                form.restore()
            form.hand_on()
            assign_state(
                self,
                state,
                name,
                may_miss=self.training_only if strict else (".*",),
                may_ignore=self.unused_keys,
                convert=self.convert_keys,
            )
        except WeightsError:
            form.restore()
            raise

    def adapt_to(self, state: State) -> None:
        """Take the form of a state that is about to be loaded, where the detector has several (a head's size, a stream less).

        It then says so in the log, and leaves to `load_weights` that new parts take the mode, device, precision and frozenness
        of those whose place they take. The base has one form only.
        """

    def counts(self, batch: Batch) -> dict[str, Tensor]:
        """Return, by name, how many samples of the batch each masked mean runs over (known identities, say), of any shape.

        The trainer sums them over processes and hands each share of the global batch its denominators as
        `batch["counts"][name]`; a masked mean divides its sum by that, so that its gradient is the global batch's.
        """
        return {}

    def before_step(self, clock: Clock) -> None:
        """Learn the time before a training step (warm-ups, a gradient reversal's λ, phases)."""

    def after_backward(self, clock: Clock) -> None:
        """Act on gradients before the optimiser does."""

    def param_groups(self, config: RunConfig) -> Iterable[dict[str, Any]]:
        """Return optimiser groups for the builder to sort; the base gives one with what trains and is no adversary's.

        A group may have an `lr` and a `weight_decay` of its own, which `decoupled_weight_decay` takes out of the gradient.
        """
        others = {id(p) for group in self.adversary_groups(config) for p in group["params"]}
        return [{"params": [p for p in self.parameters() if p.requires_grad and id(p) not in others]}]

    def adversary_groups(self, config: RunConfig) -> Iterable[dict[str, Any]]:
        """Return groups, as `param_groups` does, of an adversary: parameters that an optimiser of their own moves.

        `get_losses` then also returns `adversary`, which they lower while the others lower `overall`. One backward pass runs
        through both, so neither may reach the other's parameters: a reward is detached, and what two opponents share has its
        gradient reversed in the graph. The base has none.
        """
        return []

    def training_state(self) -> dict[str, Any]:
        """Return what training carries from step to step besides parameters and buffers (plain values and tensors)."""
        return {}

    def load_training_state(self, state: dict[str, Any]) -> None:
        """Take back what `training_state` returned."""

    def trainable_parameters(self) -> int:
        """Number of parameters that training moves."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad)


class ClassificationDetector(Detector):
    """A detector that is a feature extractor, a classifier over real and fake, and cross-entropy.

    A subclass defines `features(image) -> (B, …)` and `classifier(feat) -> (B, 2)`.
    """

    def features(self, image: Tensor) -> Tensor:
        """Return the features of normalised images `(B, 3, H, W)`."""
        raise NotImplementedError

    def classifier(self, feat: Tensor) -> Tensor:
        """Return logits `(B, 2)`; class 1 is fake."""
        raise NotImplementedError

    def forward(self, batch: Batch, inference: bool = False) -> Prediction:
        feat = batch["frozen"] if "frozen" in batch else self.features(batch["image"])
        cls = self.classifier(feat)  # (B, 2)
        return {"cls": cls, "prob": fake_probability(cls), "feat": feat}

    def get_losses(self, batch: Batch, prediction: Prediction) -> Losses:
        return self.summed({"cls": cross_entropy(prediction["cls"], batch["label"])})
