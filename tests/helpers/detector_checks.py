"""What every detector of the benchmark is tested for: agreement with the reference, gradients, and that it can learn."""

from collections.abc import Collection
from typing import Any

import numpy as np
import pytest
import torch
from parity.fill import fill_state_dict, load_golden, load_losses, make_batch, make_input
from torch import nn

from training.batch import Batch
from training.detectors.base import Detector, Losses, Prediction
from training.detectors.registry import detector_class


def build(name: str, weights: str | None = None, **keys: Any) -> Detector:
    """Return a detector from its own defaults and `keys`, its trunk random unless `weights` are named."""
    torch.manual_seed(0)
    cls = detector_class(name)
    return cls(cls.Config(model_name=name, pretrained=weights, **keys), pretrained=weights is not None)


def filled(detector: Detector, prefix: str = "") -> Detector:
    """Load the golden's weights under the reference's names, each behind `prefix`; return the detector in evaluation."""
    golden = load_golden(detector.name)
    state = fill_state_dict(golden["keys"], skip=golden["not_filled"])
    detector.load_weights({prefix + key: value for key, value in state.items()})
    return detector.eval()


def check_outputs(
    detector: Detector, tolerance: float = 1e-3, huge: Collection[str] = (), extra: Batch | None = None
) -> None:
    """Compare what a filled detector answers with the golden, each value within tolerance · max(1, |value|).

    Values of the `huge` outputs are sums of large numbers that cancel: there the output's deviation counts beside the value.
    `extra` is what the golden's input gives besides the image.
    """
    golden = load_golden(detector.name)
    with torch.inference_mode():
        answer = detector.eval()({"image": make_input(golden["input_shape"]), **(extra or {})}, inference=True)
    for key, wanted in golden["outputs"].items():
        found = answer[key]
        assert list(found.shape) == wanted["shape"], key
        first = np.array(wanted["first"])
        scale = np.maximum(wanted["std"] if key in huge else 1, np.abs(first))
        error = np.abs(found.flatten()[: len(first)].numpy() - first) / scale
        assert error.max() < tolerance, f"{key}: {error.max():.2e}"
        for name, value in (("mean", found.mean()), ("std", found.std(correction=min(1, found.numel() - 1)))):
            assert abs(float(value) - wanted[name]) < tolerance * max(1, abs(wanted[name])), f"{key}: {name}"


def quiet(detector: Detector) -> Detector:
    """Return the detector in training mode without dropout and with BatchNorm in evaluation, as the losses were taken."""
    detector.train()
    for module in detector.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm | nn.modules.dropout._DropoutNd):
            module.eval()
    return detector


def losses_of(detector: Detector, batch: Batch, prediction: Prediction) -> Losses:
    """Return a detector's losses; what its parts are said to add makes up the total, whatever they weigh."""
    losses = detector.get_losses(batch, prediction)
    parts = {name: value.detach() for name, value in losses.items() if name != "overall"}
    total = sum(value.item() for value in detector.shares(parts).values())
    assert total == pytest.approx(losses["overall"].item(), rel=1e-4, abs=1e-4)
    return losses


def check_losses(detector: Detector, names: dict[str, str], extra: Any = None, tolerance: float = 1e-3) -> None:
    """Compare a filled detector's losses and gradient norm with the reference's.

    Args:
        detector: filled.
        names: our loss → the reference's.
        extra: function of the batch that adds what our detector reads and the reference's batch lacks.
        tolerance: relative.
    """
    record = load_losses(detector.name)
    batch: Batch = make_batch(record["batch"], record["batch"]["image"][-1])
    if extra is not None:
        batch |= extra(batch)
    quiet(detector).zero_grad()
    losses = losses_of(detector, batch, detector(batch))
    for own, theirs in names.items():
        wanted = record["losses"][theirs]
        assert abs(losses[own].item() - wanted) < tolerance * max(1, abs(wanted)), own
    losses["overall"].backward()
    norm = torch.stack([p.grad.double().norm() for p in detector.parameters() if p.grad is not None]).norm()
    assert abs(float(norm) - record["grad_norm_total"]) < tolerance * max(1, record["grad_norm_total"])


def check_gradients(detector: Detector, batch: Batch) -> None:
    """See that the loss moves every trainable parameter and no other."""
    detector.train().zero_grad()
    losses_of(detector, batch, detector(batch))["overall"].backward()
    for name, parameter in detector.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, f"no gradient reaches {name}"
            assert torch.isfinite(parameter.grad).all(), name
            assert parameter.grad.any(), f"the gradient of {name} is zero"
        else:
            assert parameter.grad is None, name


def overfit(detector: Detector, batch: Batch, steps: int, lr: float) -> float:
    """Train on one batch with Adam, at most so many steps; return the AUC of its images in evaluation afterwards.

    It stops when every image was on its side with some margin twice running, so that a large network costs seconds.
    """
    optimizer = torch.optim.Adam([p for p in detector.parameters() if p.requires_grad], lr=lr)
    detector.train()
    label, settled = batch["label"].bool(), 0
    for _ in range(steps):
        optimizer.zero_grad()
        prediction = detector(batch)
        prob = prediction["prob"].detach()
        settled = settled + 1 if prob[label].min() > prob[~label].max() + 0.2 else 0
        if settled == 2:
            break
        losses_of(detector, batch, prediction)["overall"].backward()
        optimizer.step()
    # The running statistics follow slowly; in a test of a few steps they are the batch's own.
    for module in detector.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.reset_running_stats()
            module.momentum = None
    with torch.no_grad():
        for _ in range(3):
            detector(batch)
        prob = detector.eval()({"image": batch["image"]}, inference=True)["prob"]
    return auc(prob.numpy(), batch["label"].numpy())


def auc(score: np.ndarray, label: np.ndarray) -> float:
    """Return the share of (fake, real) pairs in the right order, ties counting half."""
    difference = score[label == 1][:, None] - score[label == 0][None]
    return float(((difference > 0) + 0.5 * (difference == 0)).mean())
