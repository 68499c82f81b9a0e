"""The method: silent at the start, each part removable, every loss what its equation says."""

from itertools import product

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from training.batch import DataInfo
from training.config import CONFIG_DIR, load_config
from training.detectors import build_detector
from training.detectors.base import Clock
from training.detectors.parts.clip_crossdomain.boundary_loss import boundary_target
from training.detectors.registry import config_class
from training.optimizer.builder import build_optimizer
from training.trainer.distributed import Process
from training.trainer.step import Stepper

INFO = DataInfo(identities={"a": 0, "b": 1, "c": 2}, domains={"x": 0, "y": 1})
OFF = {
    "freq_adapter": {"enabled": False},
    "boundary": {"enabled": False},
    "identity": {"enabled": False},
    "losses": {"consistency": 0},
}
SMALL = {"backbone_name": "tiny", "pretrained": None, "resolution": 32, "tuning": "full", "slerp": False}


def build(name="clip_crossdomain", seed=0, info=INFO, **keys):
    torch.manual_seed(seed)
    keys = {**SMALL, **keys}
    if name == "clip_crossdomain":
        keys["freq_adapter"] = {"channels": 8, **keys.get("freq_adapter", {})}
        keys["boundary"] = {"channels": 8, **keys.get("boundary", {})}
    return build_detector(config_class(name)(model_name=name, **keys), info, pretrained=False)


def batch(size=6, side=32, seed=1):
    generator = torch.Generator().manual_seed(seed)
    mask = torch.zeros(size, 1, side, side, dtype=torch.uint8)
    mask[1::2, :, side // 4 : side // 2, side // 4 : side // 2] = 1
    return {
        "image": torch.randint(0, 256, (size, 3, side, side), generator=generator, dtype=torch.uint8),
        "label": torch.arange(size) % 2,
        "video": [str(i) for i in range(size)],
        "target_id": torch.tensor([0, 1, -1, 2, 0, -1])[:size],
        "source_id": torch.tensor([-1, 2, -1, 0, -1, 1])[:size],
        "domain": torch.arange(size) % 2,
        "mask": mask,
    }


def log_softmax(x):
    return x - np.log(np.exp(x).sum(1, keepdims=True))


@pytest.mark.parametrize("side", [32, 48])
def test_at_step_0_the_tower_is_plain_clip_exactly(side):
    detector = build().eval()
    ready = detector.prepare(batch(side=side))
    answer = detector(ready, inference=True)
    cls, _ = detector.tower(ready["image"])
    assert torch.equal(answer["token"], cls)
    with torch.no_grad():
        detector.freq.gates["0"].fill_(0.1)
    assert not torch.equal(detector(ready, inference=True)["token"], cls)


def test_with_every_part_off_it_is_clip_ln():
    ours, plain = build(seed=3, **OFF), build("clip_ln")
    assert list(ours.state_dict()) == list(plain.state_dict())
    plain.load_weights(ours.state_dict())
    ready = plain.prepare(batch())
    a, b = ours(ready), plain(ready)
    for name in b:
        assert torch.equal(a[name], b[name]), name
    mine, theirs = ours.get_losses(ready, a), plain.get_losses(ready, b)
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)


def test_what_is_returned_with_the_prediction():
    detector = build().eval()
    answer = detector(detector.prepare(batch()), inference=True)
    assert answer["prob"].shape == (6,)
    assert answer["feat"].shape == (6, 32)
    for name in ("boundary", "fft_energy", "dwt_energy"):
        assert answer[name].shape == (6, 1, 4, 4)
    assert (answer["boundary"] >= 0).all()
    assert (answer["boundary"] <= 1).all()
    torch.testing.assert_close(answer["l2"].norm(dim=1), torch.ones(6))


def test_inference_reads_the_image_only():
    detector = build(domain={"enabled": True}, losses={"boundary": 1.0}, with_mask=True).eval()
    ready = detector.prepare(batch())
    whole = detector(ready, inference=True)["prob"]
    assert torch.equal(detector({"image": ready["image"]}, inference=True)["prob"], whole)


def test_every_loss_equals_numpy():
    weights = {"alignment": 0.3, "uniformity": 0.2, "consistency": 0.4, "boundary": 0.6}
    detector = build(
        losses=weights,
        with_mask=True,
        identity={"weight": 0.5},
        domain={"enabled": True, "weight": 0.7, "reads": "cls"},
    )
    detector.before_step(Clock(5, 10, 5))
    ready = detector.train().prepare(batch())
    prediction = detector(ready)
    views = []
    original = detector.freq.forward
    detector.freq.forward = lambda image, grid: views.append(original(image, grid)[0]) or (views[-1], {})
    torch.manual_seed(2)
    losses = {k: v.item() for k, v in detector.get_losses(ready, prediction).items()}
    p = {k: v.detach().double().numpy() for k, v in prediction.items()}
    label, index = ready["label"].numpy(), np.arange(6)
    sphere = p["feat"] / np.linalg.norm(p["feat"], axis=1, keepdims=True)
    squared = ((sphere[:, None] - sphere[None]) ** 2).sum(-1)
    i, j = np.triu_indices(6, 1)
    share = p["boundary"].reshape(6, 16)
    share = share / share.sum(1, keepdims=True)
    view = (views[0].detach().double().numpy() * share[..., None]).sum(1)
    band, known = (t.numpy() > 0 for t in boundary_target(ready["mask"], ready["label"], (4, 4)))
    people, domains = ready["target_id"].numpy(), ready["domain"].numpy()

    def discriminate(part, target, read):
        standard = (read - read.mean(0)) / np.sqrt(read.var(0) + 1e-5)
        logits = part.net[1:](torch.tensor(standard).float()).detach().double().numpy()
        kept = target >= 0
        return -log_softmax(logits)[index[kept], target[kept]].mean()

    wanted = {
        "cls": -log_softmax(p["cls"])[index, label].mean(),
        "alignment": squared[i, j][label[i] == label[j]].mean(),
        "uniformity": np.log(np.exp(-2 * squared[i, j]).mean()),
        "consistency": np.mean(
            1 - (p["freq"] * view).sum(1) / np.linalg.norm(p["freq"], axis=1) / np.linalg.norm(view, axis=1)
        ),
        "boundary": np.mean(
            [
                (-np.log(w[b & k]).mean() - np.log(1 - w[~b & k]).mean()) / 2
                for w, b, k in zip(*(a.reshape(6, 16).T for a in (p["boundary"], band, known)), strict=True)
                if (b & k).any() and (~b & k).any()
            ]
        ),
        "identity": discriminate(detector.identity, people, sphere),
        "domain": discriminate(detector.domain, domains, p["token"]),
    }
    assert set(losses) == {*wanted, "overall"}
    for name, value in wanted.items():
        assert losses[name] == pytest.approx(value, abs=1e-5), name
    factors = {"cls": 1, "identity": 0.5, "domain": 0.7, **weights}
    assert losses["overall"] == pytest.approx(sum(factors[k] * v for k, v in wanted.items()), abs=1e-5)


def test_pooling_and_fusion_are_what_they_say():
    detector = build().eval()
    ready = detector.prepare(batch())
    answer = detector(ready, inference=True)
    _, patches = detector.tower(ready["image"])
    share = answer["boundary"].flatten(1) / answer["boundary"].flatten(1).sum(1, keepdim=True)
    pooled = (patches * share[..., None]).sum(1)
    fused = F.linear(
        torch.cat([answer["token"], pooled, answer["freq"]], 1), detector.fusion.weight, detector.fusion.bias
    )
    torch.testing.assert_close(answer["feat"], fused)


@pytest.mark.parametrize("which", ["target", "source"])
@pytest.mark.parametrize("reads", ["features", "cls"])
def test_the_identity_loss_unteaches_the_tower_by_lambda(which, reads):
    detector = build(identity={"which": which, "reads": reads}).train()
    ready = detector.prepare(batch())
    gradients = {}
    for step in (0, 5):
        detector.before_step(Clock(step, 10, 5))
        detector.zero_grad()
        detector.get_losses(ready, detector(ready))["identity"].backward()
        gradients[step] = detector.tower.visual.conv1.weight.grad.clone()
        assert detector.identity.net[1].weight.grad.abs().sum() > 0
        assert (detector.fusion.weight.grad is not None) == (reads == "features")
    answer = detector(ready)
    logits = detector.identity.net(answer["l2"] if reads == "features" else answer["token"])
    detector.zero_grad()
    F.cross_entropy(logits, ready[f"{which}_id"], ignore_index=-1).backward()
    strength = 2 / (1 + np.exp(-5)) - 1
    assert torch.equal(gradients[0], torch.zeros_like(gradients[0]))
    torch.testing.assert_close(gradients[5], -strength * detector.tower.visual.conv1.weight.grad)


def test_the_discriminators_have_a_weight_decay_of_their_own_and_never_forget_more_than_a_tenth():
    optimizer = {"type": "adam", "adam": {"lr": 0.005}, "decay_norm_and_bias": True}
    adversaries = {"identity": {"weight_decay": 30.0}, "domain": {"enabled": True, "weight_decay": 7.0}}
    detector = build(optimizer=optimizer, **adversaries)
    optimizer = build_optimizer(detector, detector.config)
    names = {id(parameter): name for name, parameter in detector.named_parameters()}
    decay = {names[id(p)]: group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert decay.keys() == {name for name, p in detector.named_parameters() if p.requires_grad}
    usual = detector.config.optimizer.adam.weight_decay
    for name, value in decay.items():
        assert value == {"identity": pytest.approx(20.0), "domain": 7.0}.get(name.partition(".")[0], usual), name


def test_w_learns_from_masks_alone_where_they_teach_it():
    for weight in (0.0, 1.0):
        detector = build(losses={"boundary": weight}, with_mask=True).train()
        ready = detector.prepare(batch())
        losses = detector.get_losses(ready, detector(ready))
        sum(loss for name, loss in losses.items() if name not in ("overall", "boundary")).backward()
        reached = [parameter.grad is not None for parameter in detector.boundary.parameters()]
        assert reached == [weight == 0] * len(reached)


def test_counts_over_processes_are_the_denominators():
    detector = build(losses={"boundary": 1.0}, with_mask=True, domain={"enabled": True}).train()
    ready = detector.prepare(batch())
    counts = detector.counts(ready)
    wanted = {"identity": 4, "domain": 6, "boundary_on": 27, "boundary_off": 69}
    assert {k: int(v.sum()) for k, v in counts.items()} == wanted
    assert counts["boundary_on"].shape == (1, 1, 4, 4)
    prediction = detector(ready)
    alone = detector.get_losses(ready, prediction)
    doubled = detector.get_losses({**ready, "counts": {k: 2 * v for k, v in counts.items()}}, prediction)
    for name in ("identity", "domain", "boundary"):
        assert doubled[name].item() == pytest.approx(alone[name].item() / 2, rel=1e-5)


PARTS = {
    "all": {},
    "no freq": {"freq_adapter": {"enabled": False}},
    "fft only": {"freq_adapter": {"branches": ["fft"]}},
    "dwt only": {"freq_adapter": {"branches": ["dwt"], "wavelet": "haar", "levels": 3}},
    "no boundary": {"boundary": {"enabled": False}},
    "canny": {"boundary": {"edge": "canny"}},
    "no identity": {"identity": {"enabled": False}},
    "identity weighs nothing": {"identity": {"weight": 0}},
    "no consistency": {"losses": {"consistency": 0}},
    "domain": {"domain": {"enabled": True}},
    "CLS alone is classified": {"fusion": {"patches": False, "frequency": False}},
    "parts are only looked at": {
        "fusion": {"patches": False, "frequency": False}, "losses": {"consistency": 0}, "freq_adapter": {"inject": []},
    },
    "nothing": OFF,
    "arcmargin": {"head": "arcmargin"},
}  # fmt: skip


@pytest.mark.parametrize(("name", "tuning"), product(PARTS, ["none", "layernorm"]))
def test_two_steps_train_with_any_part_off_and_losses_reach_what_trains(name, tuning):
    detector = build(**{**PARTS[name], "tuning": tuning, "train_batchSize": 6})
    trainable = {n for n, p in detector.named_parameters() if p.requires_grad}
    before = {n: p.detach().clone() for n, p in detector.named_parameters()}
    stepper = Stepper(detector, detector.config, Process(0, 1, torch.device("cpu")), 2, 2)
    for step in range(2):
        losses, _ = stepper.step(batch(seed=step), step)
        assert all(np.isfinite(value) for value in losses.values())
        assert {n for n, p in detector.named_parameters() if p.grad is not None} == trainable
    moved = {n for n, p in detector.named_parameters() if not torch.equal(p, before[n])}
    assert moved <= trainable
    assert any("head" in n for n in moved)


def test_sides_that_the_wavelet_levels_do_not_divide():
    detector = build(freq_adapter={"levels": 3}, resolution=40).train()
    ready = detector.prepare(batch(side=40))
    prediction = detector(ready)
    assert prediction["boundary"].shape == (6, 1, 5, 5)
    assert torch.isfinite(detector.get_losses(ready, prediction)["overall"])


def test_weights_without_the_training_heads_load_and_with_them_too():
    trained, fresh, bare = build(seed=1), build(seed=2), build(seed=3, info=None)
    state = trained.state_dict()
    assert any(key.startswith("identity.") for key in state)
    fresh.load_weights({key: value for key, value in state.items() if not key.startswith("identity.")})
    bare.load_weights(state)
    ready = trained.prepare(batch())
    wanted = trained.eval()(ready, inference=True)["prob"]
    for other in (fresh, bare):
        assert torch.equal(other.eval()(ready, inference=True)["prob"], wanted)


def test_boundary_supervision_without_masks_is_a_wrong_configuration():
    with pytest.raises(ValueError, match="with_mask"):
        build(losses={"boundary": 1.0})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backbone", "side", "blocks"),
    [("ViT-B-32", 64, [0, 6]), ("ViT-B-16", 64, [0, 6]), ("ViT-L-14", 56, [0, 6, 12, 18])],
)
def test_published_towers_train_a_few_steps(backbone, side, blocks):
    detector = build(
        backbone_name=backbone, resolution=side, tuning="layernorm", train_batchSize=2, freq_adapter={"inject": blocks}
    )
    stepper = Stepper(detector, detector.config, Process(0, 1, torch.device("cpu")), 3, 3)
    values = [stepper.step(batch(2, side=side), step)[0]["cls"] for step in range(3)]
    assert values[-1] < values[0]
    assert all(gate.abs().sum() > 0 for gate in detector.freq.gates.values())


@pytest.mark.parametrize("name", ["clip_crossdomain", "demo"])
@pytest.mark.parametrize("backbone", ["tiny", "demo", "ViT-B-16", "ViT-L-14"])
def test_the_settings_as_they_are_fit_towers_of_any_depth(name, backbone):
    config = load_config(
        CONFIG_DIR / f"detector/{name}.yaml", [f"backbone_name={backbone}", "resolution=224", "pretrained=null"]
    )
    with torch.device("meta"):
        detector = build_detector(config, DataInfo(), pretrained=False)
    assert all(block < detector.tower.depth for block in detector.freq.blocks)
    if (name, backbone) == ("clip_crossdomain", "ViT-L-14"):
        assert detector.freq.blocks == [0, 6, 12, 18]
