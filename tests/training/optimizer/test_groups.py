"""Parameter groups: which rate and which decay every parameter gets."""

import pytest
import torch
from helpers.engine_scenarios import rows, sphere
from torch import nn

from common.errors import ConfigError
from training.config.schema import Config
from training.detectors.base import ClassificationDetector
from training.optimizer.averaging import WeightAverage, recompute_statistics
from training.optimizer.builder import build_optimizer
from training.optimizer.schedule import set_learning_rate
from training.trainer.distributed import Process
from training.trainer.step import Stepper

CPU = Process(0, 1, torch.device("cpu"))


def by_name(detector, config):
    """Return name → (lr, weight decay), and see that each parameter stands in exactly one group."""
    names = {id(p): name for name, p in detector.named_parameters()}
    found = {}
    for group in build_optimizer(detector, config).param_groups:
        assert group["initial_lr"] == group["lr"]
        for parameter in group["params"]:
            assert names[id(parameter)] not in found
            found[names[id(parameter)]] = (group["lr"], group["weight_decay"])
    assert found.keys() == {name for name, p in detector.named_parameters() if p.requires_grad}
    return found


def test_norms_and_biases_do_not_decay_where_asked():
    parts = {"identity": {"enabled": False}, "domain": {"enabled": False}}  # these have a decay of their own
    detector, config = sphere(
        optimizer={"type": "adamw", "adamw": {"lr": 0.01, "weight_decay": 0.1}, "decay_norm_and_bias": False}, **parts
    )
    shapes = {name: p.ndim for name, p in detector.named_parameters()}
    found = by_name(detector, config)
    assert {decay for name, (_, decay) in found.items() if shapes[name] <= 1} == {0.0}
    assert {decay for name, (_, decay) in found.items() if shapes[name] > 1} == {0.1}
    assert any(".ln_" in name and decay == 0 for name, (_, decay) in found.items())
    everything, config = sphere(optimizer={"type": "adamw", "adamw": {"weight_decay": 0.1}}, **parts)
    assert {decay for _, decay in by_name(everything, config).values()} == {0.1}


def test_layers_below_the_head_learn_slower_by_a_constant_factor():
    detector, config = sphere(optimizer={"type": "adamw", "adamw": {"lr": 0.01}, "layer_decay": 0.5})
    found = {name: lr for name, (lr, _) in by_name(detector, config).items()}
    assert found["head.weight"] == 0.01
    block = "tower.visual.transformer.resblocks"
    assert found[f"{block}.1.attn.in_proj_weight"] == pytest.approx(0.005)
    assert found[f"{block}.0.attn.in_proj_weight"] == pytest.approx(0.0025)
    assert found["tower.visual.conv1.weight"] == pytest.approx(0.00125)


def test_a_detector_s_own_rates_stay():
    class Own(ClassificationDetector):
        def __init__(self, config):
            super().__init__(config)
            self.a, self.b = nn.Linear(2, 2), nn.Linear(2, 2)

        def param_groups(self, config):
            return [{"params": list(self.a.parameters()), "lr": 1.0}, {"params": list(self.b.parameters())}]

    config = Config(model_name="own", optimizer={"type": "adam", "adam": {"lr": 0.1}})
    found = by_name(Own(config), config)
    assert (found["a.weight"][0], found["b.weight"][0]) == (1.0, 0.1)


class Apart(ClassificationDetector):
    """Decays `a` as the optimiser does and `b` apart from the gradient."""

    decay = 20.0

    def __init__(self, config):
        super().__init__(config)
        torch.manual_seed(0)
        self.a, self.b = nn.Linear(3, 2), nn.Linear(3, 2)

    def param_groups(self, config):
        apart = {"params": list(self.b.parameters()), "weight_decay": self.decay, "decoupled_weight_decay": True}
        return [{"params": list(self.a.parameters())}, apart]


def steps(detector, optimizer, numbers):
    """Take steps along gradients that depend on their number alone; return the weights of `a` and `b` after each."""
    found = []
    for number in numbers:
        generator = torch.Generator().manual_seed(number)
        for parameter in detector.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        set_learning_rate(optimizer, 1 / (1 + number))
        optimizer.step()
        found.append((detector.a.weight.detach().clone(), detector.b.weight.detach().clone()))
    return found


@pytest.mark.parametrize("kind", ["adam", "adamw", "sgd", "sam"])
def test_a_decay_apart_from_the_gradient_is_that_under_every_optimiser(kind, monkeypatch):
    settings = {"lr": 0.01, "weight_decay": 0.1} | ({"momentum": 0.9} if kind in ("sgd", "sam") else {})
    config = Config(model_name="apart", optimizer={"type": kind, kind: settings})
    decayed, free = Apart(config), Apart(config)
    optimizer = build_optimizer(decayed, config)
    before = decayed.b.weight.detach().clone()
    with_decay = steps(decayed, optimizer, range(4))
    monkeypatch.setattr(Apart, "decay", 0.0)
    without = steps(free, build_optimizer(free, config), range(4))
    # The optimiser's own move depends on the gradients alone; the decay takes lr · decay of the weights beside it.
    wanted, moved_from = before, before
    for number in range(4):
        own_move = without[number][1] - moved_from
        wanted, moved_from = wanted * (1 - 0.01 / (1 + number) * 20.0) + own_move, without[number][1]
        torch.testing.assert_close(with_decay[number][1], wanted)
    # An ordinary parameter decays as in PyTorch: L2 but for AdamW.
    plain = Apart(config)
    make = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}.get(kind, torch.optim.SGD)
    reference = make(plain.a.parameters(), **settings)
    reference.param_groups[0]["initial_lr"] = 0.01
    for (found, _), (same, _) in zip(with_decay, steps(plain, reference, range(4)), strict=True):
        assert torch.equal(found, same)


@pytest.mark.parametrize("kind", ["adam", "sgd"])
def test_a_resumed_optimiser_goes_on_with_that_decay(kind):
    config = Config(model_name="apart", train_batchSize=4, optimizer={"type": kind, kind: {"lr": 0.01}})
    alone = Apart(config)
    whole = steps(alone, build_optimizer(alone, config), range(6))
    first = Stepper(Apart(config), config, CPU, 6, 6)
    steps(first.detector, first.optimizer, range(3))
    second = Stepper(Apart(config), config, CPU, 6, 6)
    second.detector.load_state_dict(first.detector.state_dict())
    second.load_state(first.state())
    assert torch.equal(steps(second.detector, second.optimizer, range(3, 6))[-1][1], whole[-1][1])


@pytest.mark.parametrize("kind", ["adam", "adamw", "sgd", "sam"])
def test_the_discriminators_lose_their_share_and_no_more_under_every_optimiser(kind):
    """As L2, Adam makes a whole step of it for each weight, whatever its size."""
    ends = []
    for decay in (0.0, 50.0):
        heads = {name: {"enabled": True, "weight_decay": decay} for name in ("identity", "domain")}
        settings = {"lr": 0.0002} | ({"rho": 1e-9} if kind == "sam" else {})
        detector, config = sphere(optimizer={"type": kind, kind: settings}, **heads)
        before = [head.net[1].weight.detach().clone() for head in (detector.identity, detector.domain)]
        Stepper(detector, config, CPU, 20, 20).step(rows(0), 0)
        ends.append([head.net[1].weight.detach() for head in (detector.identity, detector.domain)])
    for free, decayed, first in zip(*ends, before, strict=True):
        torch.testing.assert_close(free - decayed, 0.01 * first, atol=1e-6, rtol=1e-3)


def test_nothing_trainable_is_a_wrong_configuration():
    detector, config = sphere()
    detector.requires_grad_(False)
    with pytest.raises(ConfigError, match="nothing in `clip_crossdomain` is trainable"):
        build_optimizer(detector, config)


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 2))


def test_frozen_parameters_are_not_averaged():
    module = network()
    module[0].requires_grad_(False)
    assert set(WeightAverage(module).mean) == {
        "1.weight",
        "1.bias",
        "1.running_mean",
        "1.running_var",
        "3.weight",
        "3.bias",
    }


def test_statistics_are_those_of_the_averaged_weights_and_go_with_them():
    module, generator = network().train(), torch.Generator().manual_seed(1)
    average = WeightAverage(module)
    batches = [torch.randn(16, 3, generator=generator) for _ in range(5)]
    for step, batch in enumerate(batches):
        with torch.no_grad():
            module[0].weight.add_(0.3 * step)
        module(batch)
        average.update()
    before = {name: value.clone() for name, value in module.state_dict().items()}

    def run():
        for batch in batches:
            module(batch)
        return len(batches)

    with average.applied():
        assert torch.allclose(module[0].weight, average.mean["0.weight"])
        recompute_statistics(module, run, lambda value: value)
        hidden = [batch @ module[0].weight.T + module[0].bias for batch in batches]
        wanted_mean = torch.stack([h.mean(0) for h in hidden]).mean(0)
        wanted_var = torch.stack([h.var(0) for h in hidden]).mean(0)
        torch.testing.assert_close(module[1].running_mean, wanted_mean)
        torch.testing.assert_close(module[1].running_var, wanted_var)
        assert not torch.allclose(average.mean["1.running_mean"], wanted_mean, atol=1e-2)
        assert module.training
        assert module[1].momentum == 0.1
    after = module.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_layers_kept_in_evaluation_keep_their_statistics():
    class Kept(nn.Sequential):
        def train(self, mode=True):
            super().train(mode)
            self[1].eval()
            return self

    module = Kept(*network())
    module[1].running_mean.fill_(3.0)
    recompute_statistics(module, lambda: 1, lambda value: value)
    assert torch.equal(module[1].running_mean, torch.full((4,), 3.0))
