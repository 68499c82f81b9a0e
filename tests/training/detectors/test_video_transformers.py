"""TimeSformer, VideoMAE and X-CLIP: agreement with the reference, gradients, memory switches, and that they can learn."""

import re

import numpy as np
import pytest
import torch
from helpers.detector_checks import build, check_gradients, check_losses, check_outputs, filled, overfit
from helpers.training_runs import check_resume
from helpers.video import VIDEO_TRANSFORMERS, clip_batch
from helpers.video import tiny as keys_of
from parity.fill import load_golden

from common.errors import ConfigError, DataError
from training.config import load_config
from training.config.loader import CONFIG_DIR
from training.trainer.distributed import Process
from training.trainer.step import Stepper

CPU = Process(0, 1, torch.device("cpu"))
each = pytest.mark.parametrize("name", VIDEO_TRANSFORMERS)


def tiny(name, **keys):
    return build(name, **{**keys_of(name), **keys})


@pytest.fixture(scope="module", params=VIDEO_TRANSFORMERS)
def reference(request):
    return filled(build(request.param), prefix="module.")


def test_answers_as_the_reference(reference):
    check_outputs(reference, tolerance=1e-5)


@pytest.mark.slow
def test_loss_and_gradients_as_the_reference(reference):
    check_losses(reference, {"overall": "overall", "cls": "overall"}, tolerance=1e-4)
    assert all((p.grad is not None) == p.requires_grad for p in reference.parameters())


@each
def test_the_loss_is_cross_entropy(name):
    detector, batch = tiny(name), clip_batch(4)
    cls = np.random.default_rng(0).normal(size=(4, 2))
    losses = detector.get_losses(batch, {"cls": torch.tensor(cls)})
    wanted = np.mean(np.log(np.exp(cls).sum(1)) - cls[np.arange(4), batch["label"].numpy()])
    assert {key: float(value) for key, value in losses.items()} == pytest.approx(
        dict.fromkeys(("overall", "cls"), wanted)
    )


@each
def test_gradients_reach_everything(name):
    check_gradients(tiny(name), clip_batch())


@each
def test_learns_a_handful_of_clips(name):
    assert overfit(tiny(name), clip_batch(), steps=40, lr=2e-3) == 1.0


@each
def test_frames_matter_in_their_order_and_other_clips_do_not(name):
    detector, image = tiny(name).eval(), clip_batch(4)["image"]
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in detector.parameters():  # embeddings of time begin at zero
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
        together = detector({"image": image}, inference=True)
        alone = torch.cat([detector({"image": clip[None]}, inference=True)["cls"] for clip in image])
        backwards, across = (detector({"image": image[:, order]})["cls"] for order in ([3, 2, 1, 0], [0, 2, 1, 3]))
    assert together["feat"].shape == (4, 32)
    torch.testing.assert_close(together["cls"], alone, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(together["cls"], across, rtol=0, atol=5e-5)
    # X-CLIP's messages know who speaks to whom, not when: of its groups of frames it sees no order.
    assert torch.allclose(together["cls"], backwards, rtol=0, atol=5e-5) == (name == "xclip")


@each
def test_checkpointing_and_accumulation_change_nothing(name):
    gradients = []
    for keys in ({}, {"grad_checkpointing": True}, {"accumulate": 2}):
        detector = tiny(name, train_batchSize=4, optimizer={"type": "sgd", "sgd": {"lr": 1e-9}}, **keys)
        batch = {**clip_batch(4), "roles": 1}
        stepper = Stepper(detector, detector.config, CPU, 4, 4)
        stepper.step(batch, 0)
        gradients.append({key: p.grad for key, p in detector.named_parameters() if p.requires_grad})
    for other in gradients[1:]:
        torch.testing.assert_close(other, gradients[0], rtol=1e-4, atol=1e-6)


@each
def test_checkpointing_runs_every_block_again_in_training_only(name):
    detector, batch = tiny(name, grad_checkpointing=True), clip_batch(2)
    runs = []
    for key, part in detector.named_modules():
        if re.search(r"\.\d\.(layernorm_before|layer_norm1)$", key):
            part.register_forward_hook(lambda *_: runs.append(1))
    detector.train()(batch)["cls"].sum().backward()
    assert len(runs) == 2 * 2
    detector.eval()(batch)
    assert len(runs) == 3 * 2


@each
def test_clips_of_another_size_are_refused(name):
    detector = tiny(name)
    for size in ({"frames": 8}, {"size": 48}):
        with pytest.raises(DataError, match=r"built for clips \(4, 3, 32, 32\) .* set clip_size and resolution"):
            detector(clip_batch(2, **size))
    with pytest.raises(DataError, match=r"was given \(3, 32, 32\)"):
        detector({"image": torch.zeros(2, 3, 32, 32)})


@each
@pytest.mark.parametrize(
    ("key", "sentence"),
    [
        ("resolution=200", "resolution 200 is no multiple of the patch .*; use "),
        ("backbone_config.width=100", "width 100 is not divided by"),
        ("backbone_config.inc=4", "takes inc 3, num_classes 2 and dropout 0"),
        ("backbone_name=vit", "backbone_name"),
        ("video_mode=false", "video_mode"),
        ("clip_size=null", "clip_size"),
    ],
)
def test_sizes_that_do_not_fit_together_are_refused(name, key, sentence):
    extra = ["backbone_config.heads=3"] if "width" in key else []
    with pytest.raises(ConfigError, match=sentence):
        load_config(CONFIG_DIR / "detector" / f"{name}.yaml", [key, *extra])


# As the field's files are: model_name, the file's stem, backbone_name, clip_size.
FIELD = {
    "timesformer": ("time_transformer", "timetransformer", "null", 8),
    "videomae": ("videomae", "videomae", "null", 16),
    "xclip": ("xclip", "xclip", "xception", 32),
}


@each
def test_files_of_the_field_load_under_their_names(name, tmp_path):
    written, stem, backbone, frames = FIELD[name]
    path = tmp_path / f"{stem}.yaml"
    path.write_text(
        f"model_name: {written}\npretrained: /mntsomebody/training/pretrained/xception-b5690688.pth   # path\n"
        f"backbone_name: {backbone}\nbackbone_config: {{mode: original, num_classes: 2, inc: 3, dropout: false}}\n"
        f"video_mode: True\nclip_size: {frames}\nresolution: 224\nframe_num: {{'train': 32, 'test': 32}}\n"
    )
    ours, theirs = load_config(CONFIG_DIR / "detector" / f"{name}.yaml"), load_config(path, quiet=True)
    assert theirs.model_name == name
    for key in ("pretrained", "clip_size", "resolution", "video_mode", "mean", "std"):
        assert getattr(theirs, key) == getattr(ours, key), key
    assert theirs.backbone_config.model_copy(update={"mode": None}) == ours.backbone_config


@each
def test_the_rate_falls_from_the_head_to_the_embeddings(name):
    from training.optimizer.builder import build_optimizer

    detector = tiny(name, optimizer={"type": "adamw", "adamw": {"lr": 0.01}, "layer_decay": 0.5})
    names = {id(p): key for key, p in detector.named_parameters()}
    groups = build_optimizer(detector, detector.config).param_groups
    found = {names[id(p)]: group["lr"] for group in groups for p in group["params"]}
    assert found["head.weight"] == 0.01
    assert {lr for key, lr in found.items() if ".embeddings." in key} == {0.01 / 8}
    for block in (0, 1):
        assert {lr for key, lr in found.items() if f".{block}." in key} == {0.01 / (4, 2)[block]}


@each
def test_a_resumed_run_ends_with_the_same_bits(name, tmp_path):
    keys = {"backbone_config": keys_of(name)["backbone_config"], "grad_checkpointing": True, "accumulate": 2}
    few = {"clip_size": 2, "frame_num": {"train": 2, "val": 2, "test": 2}, "train_batchSize": 2}
    check_resume(tmp_path, name, 4, 2, **few, **keys)


@each
def test_a_classifier_of_the_library_loads_whole(name):
    import transformers

    detector = tiny(name)
    classifiers = {"timesformer": "TimesformerForVideoClassification", "videomae": "VideoMAEForVideoClassification"}
    if name not in classifiers:
        pytest.skip("the library's has none")
    torch.manual_seed(1)
    theirs = getattr(transformers, classifiers[name])(detector.backbone.config).eval()
    detector.load_weights(theirs.state_dict())
    image = clip_batch(2)["image"]
    with torch.no_grad():
        torch.testing.assert_close(detector.eval()({"image": image})["cls"], theirs(image).logits)


@each
def test_published_names_mean_ours(name):
    detector = tiny(name)
    state = detector.convert_keys({key: torch.zeros(1) for key, *_ in load_golden(name)["keys"]})
    first = {key for key in state if not re.search(r"\.([2-9]|1[01])\.", key)}  # of its twelve blocks
    assert first == set(detector.state_dict())


@pytest.mark.parametrize("has", [True, False])
def test_weights_with_and_without_videomaes_last_norm_load(has):
    theirs, image = (
        tiny("videomae", backbone_config={**keys_of("videomae")["backbone_config"], "last_norm": has}).eval(),
        clip_batch(2)["image"],
    )
    with torch.no_grad():
        for norm in (theirs.fc_norm, theirs.backbone.layernorm):
            if norm is not None:
                norm.bias.normal_()
    state = {f"module.{key.replace('query.bias', 'q_bias')}": value for key, value in theirs.state_dict().items()}
    for own in (True, False):
        shape = {**keys_of("videomae")["backbone_config"], "last_norm": own}
        ours = build("videomae", **{**keys_of("videomae"), "backbone_config": shape}).eval()
        ours.load_weights(state)
        assert ("backbone.layernorm.weight" in ours.state_dict()) == has
        with torch.no_grad():
            torch.testing.assert_close(ours({"image": image})["cls"], theirs({"image": image})["cls"])


@pytest.mark.parametrize(
    ("name", "key", "sentence"),
    [
        ("videomae", "clip_size=15", "clip_size 15 is no multiple of the 2 frames of backbone_config.tubelet"),
        ("xclip", "clip_size=12", "clip_size 12 is no multiple of the 8 frames of backbone_config.message_frames"),
    ],
)
def test_clips_are_of_whole_tubes_and_groups(name, key, sentence):
    with pytest.raises(ConfigError, match=sentence):
        load_config(CONFIG_DIR / "detector" / f"{name}.yaml", [key])


def test_videomaes_files_differ_in_its_last_norm():
    paper, benchmark = (load_config(CONFIG_DIR / "detector" / f"{n}.yaml") for n in ("videomae", "videomae_benchmark"))
    assert (paper.backbone_config.last_norm, benchmark.backbone_config.last_norm) == (False, True)
    assert paper.model_copy(update={"backbone_config": benchmark.backbone_config}) == benchmark


def test_what_no_loss_of_xclip_reaches_is_frozen():
    detector = build("xclip", **keys_of("xclip"))
    frozen = {
        key.removeprefix("backbone.encoder.layers.") for key, p in detector.named_parameters() if not p.requires_grad
    }
    biases = {f"{block}.{part}.k_proj.bias" for block in (0, 1) for part in ("self_attn", "message_attn")}
    first = {f"0.message_attn.{side}_proj.{kind}" for side in "qk" for kind in ("weight", "bias")}
    assert frozen == biases | first
    before, image = detector.eval()({"image": clip_batch(2)["image"]})["cls"], clip_batch(2)["image"]
    with torch.no_grad():
        for parameter in detector.parameters():
            if not parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape))
        torch.testing.assert_close(detector({"image": image})["cls"], before, rtol=1e-4, atol=1e-5)


def test_messages_of_xclip_stay_in_their_group():
    detector, image = tiny("xclip").eval(), clip_batch(1)["image"]
    with torch.no_grad():
        seen = []
        for first in (image[:, :2], torch.zeros_like(image[:, :2])):
            frames = torch.cat([first, image[:, 2:]], dim=1).flatten(0, 1)
            seen.append(detector.backbone(frames).pooler_output)
    torch.testing.assert_close(seen[0][2:], seen[1][2:])
    assert not torch.allclose(seen[0][:2], seen[1][:2], atol=1e-3)
