"""SBI's network: agreement with the reference, whose weights mean what, its optimiser, and that it can learn."""

import numpy as np
import pytest
import torch
from helpers.detector_checks import build, check_gradients, check_losses, check_outputs, filled, overfit
from helpers.faces import face_batch
from parity.fill import load_golden
from timm.layers import DropPath

from common.errors import WeightsError
from training.config import load_config
from training.config.loader import CONFIG_DIR


@pytest.fixture(scope="module")
def reference():
    """Built by the paper's defaults; the weights bring their three outputs and their unpadded stem."""
    return filled(build("sbi"), prefix="module.")


def test_answers_as_the_reference(reference):
    check_outputs(reference, tolerance=1e-4)
    assert (reference.config.backbone_config.num_classes, reference.config.backbone_config.stem_padding) == (3, False)
    # What it has become is what its configuration builds.
    again = build("sbi", backbone_config=reference.config.backbone_config.model_dump()).eval()
    again.load_weights(reference.state_dict())
    image = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(again({"image": image})["cls"], reference.eval()({"image": image})["cls"])


def test_loss_and_gradients_as_the_reference(reference, monkeypatch):
    # The figures were taken with stochastic depth at work, drawn by the reference's rule from seed 0: floor(keep + u), u uniform.
    def reference_draw(self, x):
        keep = 1 - self.drop_prob
        return x / keep * torch.floor(keep + torch.rand(len(x), 1, 1, 1))

    monkeypatch.setattr(DropPath, "forward", reference_draw)
    torch.manual_seed(0)
    check_losses(reference, {"overall": "overall", "cls": "overall"}, tolerance=1e-4)
    assert all(p.grad is not None for p in reference.parameters())


def test_the_authors_weights_load_with_their_outputs_padding_and_range(reference):
    values = reference.state_dict()
    names = {key: torch.zeros(1) for key, _, _ in load_golden("sbi")["keys"]}
    theirs = {
        key.replace("backbone.efficientnet.", "net."): values[ours]
        for key, ours in zip(names, reference.convert_keys(names), strict=True)
        if "last_layer" not in key
    }
    theirs |= {"net._fc.weight": torch.randn(2, 1792), "net._fc.bias": torch.zeros(2)}
    detector = build("sbi", backbone_config={"stem_padding": False, "num_classes": 3}).eval()
    detector.load_weights({"model": theirs})
    assert torch.equal(detector.head.weight, theirs["net._fc.weight"])
    assert detector.config.backbone_config.stem_padding
    assert detector.backbone.conv_stem.edges == (0, 1, 0, 1)
    pixels = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    torch.testing.assert_close(detector.prepare({"image": pixels})["image"], pixels / 255)
    assert (detector.config.mean, detector.config.std) == ([0, 0, 0], [1, 1, 1])


def test_weights_that_do_not_fit_leave_the_detector_as_it_was(reference):
    theirs = {"net._conv_stem.weight": torch.zeros(48, 3, 3, 3), "net._fc.weight": torch.zeros(5, 1792)}
    detector = build("sbi", backbone_config={"stem_padding": False})
    before = detector.config.model_dump()
    for state in (theirs, {"conv1.weight": torch.zeros(3)}):
        with pytest.raises(WeightsError, match="does not hold the weights of this network"):
            detector.load_weights(state)
    assert detector.config.model_dump() == before
    assert (len(detector.head.weight), detector.backbone.conv_stem.edges) == (2, (0, 0, 0, 0))
    assert detector.mean.flatten().tolist() == pytest.approx([0.485 * 255, 0.456 * 255, 0.406 * 255])


def test_the_loss_is_cross_entropy_over_all_outputs():
    detector, batch = build("sbi", backbone_config={"num_classes": 3}).eval(), face_batch(4, 64)
    with torch.no_grad():
        prediction = detector(batch)
        losses = detector.get_losses(batch, prediction)
    cls, label = prediction["cls"].double().numpy(), batch["label"].numpy()
    exp = np.exp(cls)
    wanted = -np.log(exp[np.arange(4), label] / exp.sum(1)).mean()
    assert {name: value.item() for name, value in losses.items()} == {
        "overall": pytest.approx(wanted, rel=1e-5), "cls": pytest.approx(wanted, rel=1e-5),
    }  # fmt: skip
    np.testing.assert_allclose(prediction["prob"].numpy(), (exp / exp.sum(1, keepdims=True))[:, 1], rtol=1e-5)


def test_gradients_reach_everything():
    check_gradients(build("sbi"), face_batch(6, 64))


def test_learns_a_handful_of_faces():
    detector = build("sbi", backbone_config={"drop_path": 0.0})
    assert overfit(detector, face_batch(6, 64), steps=12, lr=1e-3) == 1.0


def test_its_files_hold_the_papers_settings_and_the_benchmarks(tmp_path):
    paper = load_config(CONFIG_DIR / "detector" / "sbi.yaml")
    assert (paper.dataset_type, paper.resolution, paper.train_batchSize, paper.nEpochs) == ("sbi", 380, 32, 100)
    assert (paper.optimizer.type, paper.optimizer.sam.lr, paper.optimizer.sam.momentum) == ("sam", 0.001, 0.9)
    assert (paper.lr_scheduler, paper.lr_hold, paper.optimizer.sam.weight_decay) == ("linear", 0.75, 0)
    benchmark = load_config(CONFIG_DIR / "detector" / "sbi_benchmark.yaml")
    assert (benchmark.model_name, benchmark.backbone_config.num_classes, benchmark.resolution) == ("sbi", 3, 256)
    path = tmp_path / "sbi.yaml"
    path.write_text(
        "model_name: sbi\npretrained: /data/xception-b5690688.pth\nbackbone_name: efficientnetb4\ndataset_type: blend\n"
        "backbone_config: {mode: original, num_classes: 3, inc: 3, dropout: false, pretrained: true}\n"
    )
    theirs = load_config(path, quiet=True)
    assert (theirs.pretrained, theirs.backbone_config.num_classes) == ("tf_efficientnet_b4.ap_in1k", 3)
