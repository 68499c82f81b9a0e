"""`clip_linear` and `clip_ln` on a small tower: what trains, what the losses are, which weights fit."""

import numpy as np
import pytest
import torch

from common.errors import WeightsError
from training.config import load_config
from training.config.loader import CONFIG_DIR
from training.detectors import build_detector
from training.detectors.registry import config_class

SMALL = {"backbone_name": "tiny", "pretrained": None, "resolution": 32}


def build(name, seed=0, **keys):
    torch.manual_seed(seed)
    return build_detector(config_class(name)(model_name=name, **{**SMALL, **keys}), pretrained=False)


def batch(size=8, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return {
        "image": torch.randint(0, 256, (size, 3, 32, 32), generator=generator, dtype=torch.uint8),
        "label": torch.arange(size) % 2,
    }


def log_softmax(x):
    return x - np.log(np.exp(x).sum(1, keepdims=True))


def test_linear_probe_trains_its_head_only():
    detector = build("clip_linear").train()
    ready = detector.prepare(batch())
    detector.get_losses(ready, detector(ready))["overall"].backward()
    assert {n for n, p in detector.named_parameters() if p.grad is not None} == {"head.weight", "head.bias"}
    assert detector.trainable_parameters() == 2 * 32 + 2
    assert not detector.tower.training


def test_probability_is_that_of_fake_and_needs_no_label():
    for name in ("clip", "clip_linear", "clip_ln"):
        detector = build(name).eval()
        answer = detector({"image": detector.prepare(batch())["image"]}, inference=True)
        logits = answer["cls"].detach().numpy()
        np.testing.assert_allclose(answer["prob"].detach().numpy(), np.exp(log_softmax(logits))[:, 1], rtol=1e-5)
        assert answer["feat"].shape == (8, 32)


@pytest.mark.parametrize("tuning", ["layernorm", "full"])
def test_losses_of_the_sphere_equal_numpy(tuning):
    detector = build("clip_ln", tuning=tuning, slerp=False, losses={"alignment": 0.3, "uniformity": 0.7}).train()
    ready = detector.prepare(batch())
    prediction = detector(ready)
    losses = detector.get_losses(ready, prediction)
    feat = prediction["feat"].detach().double().numpy()
    sphere = feat / np.linalg.norm(feat, axis=1, keepdims=True)
    np.testing.assert_allclose(prediction["l2"].detach().numpy(), sphere, atol=1e-6)
    label = ready["label"].numpy()
    logits = sphere @ detector.head.weight.detach().double().numpy().T + detector.head.bias.detach().double().numpy()
    squared = ((sphere[:, None] - sphere[None]) ** 2).sum(-1)
    i, j = np.triu_indices(8, 1)
    wanted = {
        "cls": -log_softmax(logits)[np.arange(8), label].mean(),
        "alignment": squared[i, j][label[i] == label[j]].mean(),
        "uniformity": np.log(np.exp(-2 * squared[i, j]).mean()),
    }
    for name, value in wanted.items():
        assert losses[name].item() == pytest.approx(value, abs=1e-5), name
    total = wanted["cls"] + 0.3 * wanted["alignment"] + 0.7 * wanted["uniformity"]
    assert losses["overall"].item() == pytest.approx(total, abs=1e-5)
    losses["overall"].backward()
    assert all((p.grad is not None) == p.requires_grad for p in detector.parameters())


def test_slerp_augments_training_only():
    plain, augmented = build("clip_ln", slerp=False), build("clip_ln", slerp=True)
    ready = plain.prepare(batch())
    for mode in (False, True):
        plain.train(mode)
        augmented.train(mode)
        torch.manual_seed(4)
        a = plain.get_losses(ready, plain(ready))["cls"].item()
        b = augmented.get_losses(ready, augmented(ready))["cls"].item()
        assert (a != b) == mode


def test_arcmargin_head_makes_training_harder_and_inference_no_different():
    detector = build("clip_ln", head="arcmargin", arcmargin={"scale": 12, "margin": 0.4}, slerp=False).train()
    ready = detector.prepare(batch())
    prediction = detector(ready)
    w = detector.head.weight.detach().numpy()
    wanted = 12 * prediction["l2"].detach().numpy() @ (w / np.linalg.norm(w, axis=1, keepdims=True)).T
    np.testing.assert_allclose(prediction["cls"].detach().numpy(), wanted, atol=1e-4)
    label = ready["label"].numpy()
    plain = -log_softmax(wanted)[np.arange(8), label].mean()
    assert detector.get_losses(ready, prediction)["cls"].item() > plain + 0.5


def test_low_rank_tuning_trains_in_a_detector_and_merges():
    detector = build("clip_ln", tuning="lora").train()
    ready = detector.prepare(batch())
    optimizer = torch.optim.Adam([p for p in detector.parameters() if p.requires_grad], lr=0.01)
    for _ in range(3):
        optimizer.zero_grad()
        detector.get_losses(ready, detector(ready))["overall"].backward()
        optimizer.step()
    detector.eval()
    before = detector(ready)["cls"]
    detector.merge()
    torch.testing.assert_close(detector(ready)["cls"], before, atol=1e-5, rtol=1e-5)
    plain = build("clip_ln", seed=7).eval()
    plain.load_weights(detector.state_dict())
    torch.testing.assert_close(plain(ready)["cls"], before, atol=1e-5, rtol=1e-5)


def test_weights_of_another_network_are_refused():
    with pytest.raises(WeightsError, match="shape"):
        build("clip_ln").load_weights(build("clip_ln", backbone_name="demo", resolution=96).state_dict())
    with pytest.raises(WeightsError, match="missing"):
        build("clip_ln").load_weights({"conv1.weight": torch.zeros(32, 3, 8, 8)})
    state = build("clip_ln").state_dict()
    del state["head.bias"]
    with pytest.raises(WeightsError, match=r"head\.bias"):
        build("clip_ln").load_weights(state)


@pytest.mark.parametrize("name", ["clip", "clip_linear", "clip_ln", "clip_crossdomain"])
def test_the_yaml_files_load(name):
    config = load_config(CONFIG_DIR / "detector" / f"{name}.yaml")
    assert config.model_name == name
    assert config.backbone_name in ("ViT-B-16", "ViT-L-14")
    assert config.train_dataset == ["FaceForensics++"]
