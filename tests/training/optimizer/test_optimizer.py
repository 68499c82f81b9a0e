"""Optimisation: schedules, SAM and averages against their definitions."""

import math
from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from training.optimizer.averaging import WeightAverage
from training.optimizer.sam import perturbed
from training.optimizer.schedule import factor, set_learning_rate


def settings(**keys):
    return SimpleNamespace(
        **{
            "lr_scheduler": None,
            "warmup_steps": 0,
            "lr_gamma": 0.5,
            "lr_step": 2,
            "lr_min": 0.1,
            "lr_hold": 0.0,
            "lr_rise": 0.0,
            **keys,
        }
    )


def test_step_schedule_steps_by_epochs():
    values = [factor(settings(lr_scheduler="step"), step, 60, 10) for step in range(60)]
    assert values == [1.0] * 20 + [0.5] * 20 + [0.25] * 20


def test_cosine_and_linear_end_at_their_minimum():
    for name in ("cosine", "linear"):
        values = [factor(settings(lr_scheduler=name), step, 50, 10) for step in range(50)]
        assert values[0] == 1.0
        assert values[-1] == pytest.approx(0.1)
        assert all(a > b for a, b in pairwise(values))
    cosine = factor(settings(lr_scheduler="cosine"), 10, 50, 10)
    assert cosine == pytest.approx(0.1 + 0.9 * (1 + math.cos(math.pi * 10 / 49)) / 2)


def test_warm_up_rises_linearly_then_the_schedule_begins():
    values = [factor(settings(lr_scheduler="linear", warmup_steps=4), step, 20, 5) for step in range(6)]
    assert values[:4] == [0.25, 0.5, 0.75, 1.0]
    assert values[4] == 1.0
    assert values[5] < 1.0


def test_a_schedule_may_hold_before_it_falls():
    keys = settings(lr_scheduler="linear", lr_hold=0.75, lr_min=0.0, warmup_steps=2)
    values = [factor(keys, step, 40, 5) for step in range(40)]
    assert values[2:31] == [1.0] * 29
    assert values[30:] == pytest.approx([1 - i / 9 for i in range(10)])


def test_the_rise_may_be_a_share_of_the_training_and_the_longer_one_counts():
    values = [factor(settings(lr_scheduler="linear", lr_rise=0.25, lr_hold=0.75), step, 16, 4) for step in range(16)]
    assert values[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert values[12] == 1.0
    assert values[15] == pytest.approx(0.1)
    for steps, first in ((2, 0.25), (8, 0.125)):
        assert factor(settings(lr_rise=0.25, warmup_steps=steps), 0, 16, 4) == first


def test_set_learning_rate_keeps_the_ratio_of_groups():
    a, b = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([{"params": [a], "lr": 1.0}, {"params": [b], "lr": 0.1}])
    for group in optimizer.param_groups:
        group["initial_lr"] = group["lr"]
    set_learning_rate(optimizer, 0.5)
    set_learning_rate(optimizer, 0.5)
    assert [group["lr"] for group in optimizer.param_groups] == [0.5, 0.05]


def test_sam_perturbs_by_rho_along_the_gradient_and_returns_exactly():
    generator = torch.Generator().manual_seed(0)
    parameters = [
        nn.Parameter(torch.randn(5, generator=generator)),
        nn.Parameter(torch.randn(2, 3, generator=generator)),
    ]
    before = [p.detach().clone() for p in parameters]
    for p in parameters:
        p.grad = torch.randn(p.shape, generator=generator)
    total = torch.sqrt(sum((p.grad**2).sum() for p in parameters))
    with perturbed(parameters, rho=0.05):
        for p, old in zip(parameters, before, strict=True):
            torch.testing.assert_close(p.detach() - old, 0.05 * p.grad / total)
    assert all(torch.equal(p, old) for p, old in zip(parameters, before, strict=True))


def test_sam_stays_put_on_a_gradient_that_is_not_finite():
    p = nn.Parameter(torch.ones(3))
    p.grad = torch.tensor([1.0, float("inf"), 0.0])
    with perturbed([p], rho=0.05):
        assert torch.equal(p, torch.ones(3))


def test_swa_is_the_mean_and_ema_follows_its_recursion():
    module = nn.Linear(2, 2)
    swa, ema = WeightAverage(module), WeightAverage(module, decay=0.75)
    seen, moving = [], None
    for step in range(1, 9):
        with torch.no_grad():
            module.weight.fill_(float(step**2))
        swa.update()
        ema.update()
        seen.append(float(step**2))
        weight = max(0.25, 1 / step)
        moving = seen[-1] if moving is None else moving + weight * (seen[-1] - moving)
    assert swa.mean["weight"][0, 0].item() == pytest.approx(sum(seen) / len(seen))
    assert ema.mean["weight"][0, 0].item() == pytest.approx(moving)


def test_average_applied_and_taken_back_and_resumed():
    module = nn.Linear(2, 2)
    average = WeightAverage(module)
    average.update()
    kept = average.mean["weight"].clone()
    with torch.no_grad():
        module.weight.add_(1)
    now = module.weight.detach().clone()
    with average.applied():
        assert torch.equal(module.weight, kept)
    assert torch.equal(module.weight, now)
    other = WeightAverage(module)
    other.load_state(average.state())
    assert other.updates == 1
    assert torch.equal(other.mean["weight"], kept)
