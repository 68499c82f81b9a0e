"""`clip` and `clip_ln` answer as DeepfakeBench's CLIP and GenD do, from those projects' own key names."""

import pytest
import torch
from parity.fill import fill_tensor, load_golden, load_losses, make_batch, make_input

from training.detectors import build_detector
from training.detectors.registry import config_class


def build(name, **keys):
    config = config_class(name)(model_name=name, pretrained=None, **keys)
    # On the meta device nothing is drawn or allocated; the reference's weights fill it afterwards.
    with torch.device("meta"):
        detector = build_detector(config, pretrained=False)
    detector.to_empty(device="cpu")
    detector.mean.fill_(0.5 * 255)
    detector.std.fill_(0.5 * 255)
    return detector


def filled(golden, prefix=""):
    return {prefix + name: fill_tensor(name, shape) for name, shape, _ in golden["keys"]}


def agree(golden, prediction, tolerance=1e-4):
    for name, wanted in golden["outputs"].items():
        got = prediction[name].detach().float()
        assert list(got.shape) == wanted["shape"], name
        first = torch.tensor(wanted["first"])
        torch.testing.assert_close(got.flatten()[: len(first)], first, atol=tolerance, rtol=tolerance, msg=name)
        assert got.mean().item() == pytest.approx(wanted["mean"], abs=tolerance)
        assert got.std().item() == pytest.approx(wanted["std"], abs=tolerance)


@pytest.mark.parametrize("prefix", ["", "module."])
def test_clip_answers_like_deepfakebench(prefix):
    golden = load_golden("clip")
    detector = build("clip").eval()
    detector.load_weights(filled(golden, prefix))
    assert sum(p.numel() for p in detector.parameters()) == golden["params"]
    with torch.inference_mode():
        agree(golden, detector({"image": make_input(golden["input_shape"])}, inference=True))


def test_clip_trains_like_deepfakebench():
    record = load_losses("clip")
    detector = build("clip").train()
    detector.load_weights(filled(load_golden("clip")))
    batch = make_batch(record["batch"], 224)
    losses = detector.get_losses(batch, detector(batch))
    assert losses["overall"].item() == pytest.approx(record["losses"]["overall"], abs=1e-5)
    losses["overall"].backward()
    gradients = {name: p.grad for name, p in detector.named_parameters()}
    assert [name for name, g in gradients.items() if g is None] == record["without_grad"]
    norm = torch.stack([g.norm() for g in gradients.values()]).norm().item()
    assert norm == pytest.approx(record["grad_norm_total"], rel=1e-4)


def test_clip_ln_answers_like_gend():
    golden = load_golden("gend_clip_l14")
    detector = build("clip_ln").eval()
    detector.load_weights(filled(golden))
    with torch.inference_mode():
        agree(golden, detector({"image": make_input(golden["input_shape"])}, inference=True))
    # The reference keeps the projection into the space shared with text, which its forward never uses.
    assert sum(p.numel() for p in detector.parameters()) == golden["params"] - 768 * 1024
    # 0.03 % of the parameters and the head train.
    assert detector.trainable_parameters() == 2 * 1024 * (2 * 24 + 2) + 2 * 1024 + 2
