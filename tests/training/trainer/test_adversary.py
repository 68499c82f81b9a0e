"""An adversary inside a detector: an optimiser of its own, which checkpoints carry and a resume takes back."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn

from training.config.schema import Config
from training.detectors.base import ADVERSARY, ClassificationDetector
from training.optimizer.builder import build_adversary
from training.trainer.checkpoint import describe, read_resumable, save_checkpoint
from training.trainer.distributed import Process
from training.trainer.step import NotFinite, Stepper

CPU = Process(0, 1, torch.device("cpu"))
SGD = {"type": "sgd", "sgd": {"lr": 0.1, "momentum": 0.0, "weight_decay": 0.0}}
ADAM = {"type": "adam", "adam": {"lr": 0.01}}


class Contest(ClassificationDetector):
    """A linear classifier, and an opponent who bends its input and is rewarded by its loss."""

    def __init__(self, config):
        super().__init__(config)
        self.head, self.opponent = nn.Linear(3, 2), nn.Linear(3, 3)

    def features(self, image):
        colour = image.mean((2, 3))
        return colour + self.opponent(colour).detach()

    def classifier(self, feat):
        return self.head(feat)

    def adversary_groups(self, config):
        return [{"params": [*self.opponent.parameters()], "lr": 0.025}]

    def get_losses(self, batch, prediction):
        losses = super().get_losses(batch, prediction)
        bent = self.opponent(batch["image"].mean((2, 3)))
        return {**losses, ADVERSARY: (bent.square().mean(1) * losses["cls"].detach()).mean()}


class Plain(ClassificationDetector):
    """The same without the opponent."""

    def __init__(self, config):
        super().__init__(config)
        self.head, self.opponent = nn.Linear(3, 2), nn.Linear(3, 3)

    def features(self, image):
        return self.opponent(image.mean((2, 3)))

    def classifier(self, feat):
        return self.head(feat)


def make(kind=Contest, **keys):
    torch.manual_seed(0)
    config = Config.model_validate({"model_name": "contest", "manualSeed": 5, "optimizer": SGD, **keys})
    detector = kind(config)
    return detector, Stepper(detector, config, CPU, total_steps=10, steps_per_epoch=5)


def make_batch(number=0, size=6):
    generator = np.random.default_rng([3, number])
    image = generator.normal(size=(size, 3, 4, 4)).astype(np.float32)
    return {"image": torch.from_numpy(image), "label": torch.arange(size) % 2}


def state_of(detector):
    return {name: value.clone() for name, value in detector.state_dict().items()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(value, b[name]) for name, value in a.items())


def test_each_side_lowers_its_own_loss_at_its_own_rate():
    detector, stepper = make(lr_scheduler="linear", lr_rise=0.5)
    alone = copy.deepcopy(detector)
    batch = make_batch()
    losses = alone.get_losses(batch, alone(batch))
    ours = torch.autograd.grad(losses["overall"], [*alone.head.parameters()], retain_graph=True)
    theirs = torch.autograd.grad(losses[ADVERSARY], [*alone.opponent.parameters()])
    said, _ = stepper.step(make_batch(), 2)
    rates = [optimizer.param_groups[0]["lr"] for optimizer in stepper.optimizers]
    assert 0 < rates[0] < 0.1  # the schedule moves both
    assert rates[1] == pytest.approx(rates[0] / 4)
    for part, gradients, rate in ((0, ours, rates[0]), (1, theirs, rates[1])):
        old = [*(alone.head, alone.opponent)[part].parameters()]
        new = [*(detector.head, detector.opponent)[part].parameters()]
        for before, gradient, after in zip(old, gradients, new, strict=True):
            torch.testing.assert_close(after, before - rate * gradient)
    assert said["overall"] == pytest.approx(losses["cls"].item())
    assert said[ADVERSARY] == pytest.approx(losses[ADVERSARY].item())
    assert said["weighted/adversary"] == 0
    assert said["grad_norm"] == pytest.approx(math.sqrt(sum(float(g.square().sum()) for g in ours)), rel=1e-5)


def test_accumulation_reaches_both_sides():
    one, whole = make()
    two, parts = make(accumulate=2)
    whole.step(make_batch(), 0)
    seen = copy.deepcopy(two)
    batch = make_batch()
    chosen = [[0, 1, 2], [3, 4, 5]]
    wanted = 0
    for rows in chosen:
        part = {key: value[rows] for key, value in batch.items()}
        wanted = wanted + torch.autograd.grad(seen.get_losses(part, seen(part))[ADVERSARY], seen.opponent.weight)[0] / 2
    parts.step(make_batch(), 0)
    torch.testing.assert_close(two.opponent.weight, seen.opponent.weight - 0.025 * wanted)
    torch.testing.assert_close(two.head.weight, one.head.weight)


def test_clipping_is_each_side_s_own():
    detector, stepper = make(grad_clip=1e-3)
    before = state_of(detector)
    stepper.step(make_batch(), 0)
    for part, rate in (("head", 0.1), ("opponent", 0.025)):
        moved = [value - before[name] for name, value in detector.state_dict().items() if name.startswith(part)]
        assert torch.cat([m.flatten() for m in moved]).norm().item() == pytest.approx(rate * 1e-3, rel=1e-3)


def test_resumes_both_sides_to_the_same_bits(tmp_path):
    whole, stepper = make(optimizer=ADAM)
    for number in range(6):
        if number == 3:
            path = tmp_path / "last.pth"
            save_checkpoint(path, {**describe(whole), **stepper.state(), "step": 3})
        stepper.step(make_batch(number), number)

    def go_on(forget):
        again, other = make(optimizer=ADAM)
        state = read_resumable(path)
        again.load_weights(state["model"])
        if forget:
            state[ADVERSARY]["state"] = other.adversary.state_dict()["state"]
        other.load_state(state)
        for number in range(3, 6):
            other.step(make_batch(number), number)
        return state_of(again)

    assert same(go_on(forget=False), state_of(whole))
    lost = go_on(forget=True)
    assert not torch.equal(lost["opponent.weight"], whole.opponent.weight)


def test_checkpoints_of_detectors_without_one_are_as_they_were():
    _, stepper = make(Plain)
    assert stepper.adversary is None
    assert stepper.state().keys() == {"optimizer", "scaler"}
    _, again = make(Plain)
    again.load_state(stepper.state())


def test_a_state_with_or_without_an_adversary_is_not_the_other_s():
    _, contest = make(optimizer=ADAM)
    _, plain = make(Plain, optimizer=ADAM)
    before = copy.deepcopy(contest.state())
    with pytest.raises(ValueError, match="none for an adversary there, one here"):
        contest.load_state(plain.state())
    with pytest.raises(ValueError, match="one for an adversary there, none here"):
        plain.load_state(contest.state())
    broken = copy.deepcopy(contest.state())
    broken["optimizer"]["state"] = {0: {"step": torch.tensor(9.0)}}
    broken[ADVERSARY]["param_groups"] = []
    with pytest.raises(ValueError, match="0 groups of parameters there"):
        contest.load_state(broken)
    assert contest.state() == before


def test_a_reward_that_is_not_finite_updates_nothing():
    detector, stepper = make()
    stepper.detector.get_losses = lambda batch, prediction, plain=detector.get_losses: {
        **(found := plain(batch, prediction)),
        ADVERSARY: found[ADVERSARY] * math.inf,
    }
    before = state_of(detector)
    with pytest.raises(NotFinite, match="adversary=inf"):
        stepper.step(make_batch(), 0)
    assert same(before, state_of(detector))


def test_the_adversary_s_parameters_are_in_one_optimiser_only():
    detector, stepper = make()
    sets = [{id(p) for group in optimizer.param_groups for p in group["params"]} for optimizer in stepper.optimizers]
    assert not sets[0] & sets[1]
    assert sets[0] | sets[1] == {id(p) for p in detector.parameters()}
    detector.opponent.requires_grad_(False)
    assert build_adversary(detector, detector.config) is None
