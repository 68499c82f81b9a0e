"""I3D: agreement with the reference, its loss, gradients, any size of clip, and that it can learn."""

import numpy as np
import pytest
import torch
from helpers.clips import clip_batch
from helpers.detector_checks import build, check_gradients, check_losses, check_outputs, filled, overfit
from helpers.training_runs import check_resume

from common.errors import ConfigError
from training.config import load_config
from training.config.loader import CONFIG_DIR
from training.detectors.registry import detector_class

TINY = {"backbone_name": "resnet3d_tiny", "resolution": 32, "clip_size": 4}


@pytest.fixture(scope="module")
def reference():
    return filled(build("i3d"), prefix="module.")


def test_answers_as_the_reference(reference):
    own = reference.forward

    def answer(*args, **keys):
        # There `prob` has the shape of `cls`, and `feat` is the answer once more.
        cls = own(*args, **keys)["cls"]
        return {"cls": cls, "prob": cls, "feat": cls}

    reference.forward = answer
    try:
        check_outputs(reference, tolerance=1e-5)
    finally:
        del reference.forward


@pytest.mark.slow
def test_loss_and_gradients_as_the_reference(reference):
    check_losses(reference, {"overall": "overall", "cls": "overall"}, tolerance=1e-4)
    assert all(p.grad is not None for p in reference.parameters())


def test_the_loss_is_binary_cross_entropy_of_the_sigmoid():
    detector, batch = build("i3d", **TINY).eval(), clip_batch()
    found = detector(batch)
    assert found["cls"].shape == (6, 1)
    assert found["prob"].shape == (6,)
    assert found["feat"].shape == (6, 256)
    p, y = found["cls"][:, 0].detach().double().numpy(), batch["label"].numpy()
    wanted = -np.mean(y * np.log(p) + (1 - y) * np.log(1 - p))
    losses = detector.get_losses(batch, found)
    assert {k: v.item() for k, v in losses.items()} == pytest.approx({"overall": wanted, "cls": wanted}, rel=1e-5)
    np.testing.assert_array_equal(found["prob"].detach(), found["cls"][:, 0].detach())


def test_a_sure_mistake_still_has_a_gradient():
    detector, logit = build("i3d", **TINY), torch.tensor([-200.0, 200.0], requires_grad=True)
    losses = detector.get_losses({"label": torch.tensor([1, 0])}, {"logit": logit})
    losses["overall"].backward()
    assert losses["overall"].item() == pytest.approx(200)
    torch.testing.assert_close(logit.grad, torch.tensor([-0.5, 0.5]))


def test_gradients_reach_everything():
    check_gradients(build("i3d", **TINY), clip_batch())


def test_learns_a_handful_of_clips():
    assert overfit(build("i3d", dropout=0.0, **TINY), clip_batch(), steps=30, lr=3e-3) == 1.0


@pytest.mark.parametrize("shape", [(1, 2, 3, 32, 32), (2, 5, 3, 40, 48), (1, 8, 3, 64, 64)])
def test_clips_may_have_any_size(shape):
    with torch.no_grad():
        assert build("i3d", **TINY).eval()({"image": torch.randn(shape)}, inference=True)["prob"].shape == shape[:1]


def test_a_resumed_run_ends_with_the_same_bits(tmp_path):
    keys = {"backbone_name": "resnet3d_tiny", "grad_checkpointing": True, "accumulate": 2, "train_batchSize": 2}
    check_resume(tmp_path, "i3d", 4, 2, frames=6, video_mode=True, clip_size=4, **keys)


def test_weights_are_looked_for_under_their_published_name(tmp_path):
    cls = detector_class("i3d")
    config = load_config(CONFIG_DIR / "detector" / "i3d.yaml", quiet=True)
    assert cls.weights_file(config) == "I3D_8x8_R50.pth"
    (tmp_path / "I3D_8x8_R50.pyth").touch()
    there = config.model_copy(update={"pretrained": str(tmp_path / "I3D_8x8_R50.pth")})
    assert cls.local_weights(there) == tmp_path / "I3D_8x8_R50.pyth"
    assert cls.local_weights(config.model_copy(update={"pretrained": None})) is None


def test_the_field_s_settings_load_and_others_are_a_sentence(tmp_path):
    path = tmp_path / "theirs.yaml"
    path.write_text(
        "model_name: i3d\npretrained: ./training/pretrained/I3D_8x8_R50.pth\nbackbone_name: xception\n"
        "backbone_config:\n mode: original\n num_classes: 1\n inc: 3\n dropout: false\n"
        "video_mode: True\nclip_size: 16\nframe_num: {'train': 32, 'test': 32}\nloss_func: cross_entropy\nlosstype: null\n"
    )
    theirs = load_config(path, quiet=True)
    assert (theirs.backbone_name, theirs.clip_size, theirs.dropout) == ("resnet3d50", 16, 0.5)
    ours = CONFIG_DIR / "detector" / "i3d.yaml"
    for wrong, said in (
        ("clip_size=1", "clip_size"),
        ("video_mode=false", "video_mode.*reads clips"),
        ("resolution=16", "resolution"),
        ("backbone_config.dropout=0.2", "backbone_config.*dropout"),
        ("backbone_config.num_classes=2", "num_classes"),
        ("backbone_name=resnet50", "backbone_name.*resnet3d50"),
    ):
        with pytest.raises(ConfigError, match=rf"(?s){said}"):
            load_config(ours, [wrong])
