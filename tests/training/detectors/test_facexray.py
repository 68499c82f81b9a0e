"""Face X-ray: agreement with the reference, its losses, gradients, and that it can learn."""

import numpy as np
import pytest
import torch
from helpers.detector_checks import build, check_gradients, check_losses, check_outputs, filled, overfit
from helpers.faces import face_batch

from common.errors import ConfigError, WeightsError
from training.config.loader import load_config

SMALL = {"backbone_name": "hrnet_w18_small", "resolution": 64}


@pytest.fixture(scope="module")
def reference():
    return filled(build("facexray", loss_func={"mask_loss": "mse"}, xray_weight=1000.0), prefix="module.")


def small_batch(seed=0):
    batch = face_batch(8, 64, seed)
    soft = torch.nn.functional.avg_pool2d(batch["mask"].float(), 5, stride=1, padding=2)
    return {**batch, "xray": 4 * soft * (1 - soft)}


def test_answers_as_the_reference(reference):
    check_outputs(reference)


def test_losses_and_gradients_as_the_reference(reference):
    # The reference takes whatever mask a batch holds for the X-ray itself.
    check_losses(
        reference, {"overall": "overall", "cls": "cls", "mask": "mask"}, extra=lambda batch: {"xray": batch["mask"]}
    )
    assert all(p.grad is not None for p in reference.parameters())


def test_the_papers_loss_is_cross_entropy_of_pixels_and_class():
    detector, batch = build("facexray", **SMALL).eval(), small_batch()
    with torch.no_grad():
        prediction = detector(batch)
        losses = {k: float(v) for k, v in detector.get_losses(batch, prediction).items()}
    cls, label = prediction["cls"].double().numpy(), batch["label"].numpy()
    z, target = prediction["mask_pred"].double().numpy(), batch["xray"].double().numpy()
    p = 1 / (1 + np.exp(-z))
    wanted_mask = -(target * np.log(p) + (1 - target) * np.log(1 - p)).mean()
    wanted_cls = np.mean(np.log(np.exp(cls).sum(1)) - cls[np.arange(8), label])
    assert losses["mask"] == pytest.approx(wanted_mask, rel=1e-4)
    assert losses["cls"] == pytest.approx(wanted_cls, rel=1e-4)
    assert losses["overall"] == pytest.approx(wanted_cls + 100 * wanted_mask, rel=1e-4)


def test_gradients_reach_everything():
    check_gradients(build("facexray", **SMALL), small_batch())


def test_a_forgery_mask_stands_in_for_the_xray():
    detector, batch = build("facexray", **SMALL).eval(), small_batch()
    with torch.no_grad():
        prediction = detector(batch)
        batch.pop("xray")
        assert torch.isfinite(detector.get_losses(batch, prediction)["overall"])


def test_stored_masks_that_are_unknown_count_in_no_loss():
    detector, batch = build("facexray", **SMALL).eval(), small_batch()
    batch.pop("xray")
    with torch.no_grad():
        prediction = detector(batch)
    fakes = batch["label"] == 1
    known = detector.get_losses(batch, prediction)["mask"].item()
    unknown = {**batch, "mask": torch.where(fakes.view(-1, 1, 1, 1), 0, batch["mask"])}
    assert detector.counts(unknown)["mask"] == (~fakes).sum()
    reals = {key: value[~fakes] for key, value in batch.items() if isinstance(value, torch.Tensor)}
    alone = detector.get_losses(reals, {key: value[~fakes] for key, value in prediction.items()})["mask"].item()
    assert detector.get_losses(unknown, prediction)["mask"].item() == pytest.approx(alone, rel=1e-5)
    assert alone != pytest.approx(known, rel=1e-2)
    half = {**unknown, "counts": {"mask": torch.tensor(8.0)}}
    assert detector.get_losses(half, prediction)["mask"].item() == pytest.approx(alone / 2, rel=1e-5)


def test_learns_a_handful_of_faces():
    assert overfit(build("facexray", **SMALL), small_batch(), steps=12, lr=1e-3) == 1.0


def test_inference_reads_the_image_only():
    detector, batch = build("facexray", **SMALL).eval(), small_batch()
    with torch.no_grad():
        alone = detector({"image": batch["image"]}, inference=True)
        together = detector(batch)
    torch.testing.assert_close(alone["prob"], together["prob"])
    assert alone["mask_pred"].shape == (8, 1, 64, 64)


def test_other_weights_are_refused(reference):
    state = build("facexray", **SMALL).state_dict()
    with pytest.raises(WeightsError, match="does not hold the weights of this network"):
        reference.load_weights(state)


def test_unknown_trunks_and_absent_weights_are_named():
    with pytest.raises(ConfigError, match="hrnet_w49"):
        build("facexray", backbone_name="hrnet_w49")
    with pytest.raises(WeightsError, match=r"neither a file .* nor a tag of hrnet_w18_small"):
        build("facexray", weights="no_such_tag", **SMALL)


def test_the_field_s_file_means_hrnet(tmp_path):
    path = tmp_path / "facexray.yaml"
    path.write_text(
        "model_name: facexray\nbackbone_name: efficientnetb4\ndataset_type: blend\nloss_func:\n  mask_loss: bce\n"
    )
    config = load_config(path)
    assert config.backbone_name == "hrnet_w48"
    assert config.loss_func.mask_loss == "bce"
