"""TALL: agreement with the reference, its layout against plain NumPy, and that training does what it should."""

import numpy as np
import pytest
import torch
from helpers.detector_checks import build, check_gradients, check_losses, check_outputs, filled, losses_of, overfit
from helpers.faces import face_batch
from helpers.pack import write_pack
from helpers.training_runs import arguments, call, differences
from helpers.training_runs import state as content
from torch import nn

from common.errors import ConfigError, WeightsError
from training.config import load_config
from training.config.loader import CONFIG_DIR
from training.detectors.parts.tall import frame_places, thumbnail

TINY = {
    "embed_dim": 16, "depths": [2, 2, 2, 2], "num_heads": [1, 2, 4, 8], "window_size": [4, 4, 4, 2], "resolution": 64,
}  # fmt: skip


def tiny(**keys):
    return build("tall", **{**TINY, **keys})


def batch(size=4, frames=4):
    """Clips of still faces that a little noise moves."""
    faces = face_batch(size, 64)
    noise = torch.randn((size, frames, 3, 64, 64), generator=torch.Generator().manual_seed(0))
    return {"image": faces["image"][:, None] + 0.05 * noise, "label": faces["label"]}


@pytest.fixture(scope="module")
def reference():
    return filled(build("tall", drop_path_rate=0.0), prefix="module.")


def test_answers_as_the_reference(reference):
    # Its `feat` is the probability once more; ours is what the classifier reads.
    own = reference.forward
    reference.forward = lambda *args, **keys: (found := own(*args, **keys)) | {"feat": found["prob"]}
    try:
        check_outputs(reference, tolerance=1e-5)
    finally:
        del reference.forward


@pytest.mark.slow
def test_loss_and_gradients_as_the_reference(reference):
    check_losses(reference, {"overall": "overall", "cls": "overall"}, tolerance=1e-4)
    assert all(p.grad is not None for p in reference.parameters())


@pytest.mark.parametrize(("frames", "rows"), [(4, 2), (9, 3), (6, 2), (6, 3), (3, 1)])
def test_frames_lie_in_reading_order_each_reduced_by_means(frames, rows):
    clip = np.random.default_rng(0).random((2, frames, 3, 12, 12))
    columns = frames // rows
    wanted = np.zeros((2, 3, 12, 12))
    height, width = 12 // rows, 12 // columns
    for frame in range(frames):
        y, x = frame // columns * height, frame % columns * width
        for i in range(height):
            for j in range(width):
                cell = clip[:, frame, :, i * rows : (i + 1) * rows, j * columns : (j + 1) * columns]
                wanted[:, :, y + i, x + j] = cell.mean((2, 3))
    np.testing.assert_allclose(thumbnail(torch.tensor(clip), rows).numpy(), wanted, atol=1e-12)


@pytest.mark.parametrize(("frames", "rows"), [(4, 2), (6, 2)])
def test_every_patch_knows_its_frame(frames, rows):
    # A thumbnail of frames that each show their own number, and embeddings that are that number.
    number = torch.arange(frames, dtype=torch.float32)
    picture = thumbnail(number.view(1, -1, 1, 1, 1).expand(1, -1, 1, 12, 12), rows)
    places = frame_places(number.view(1, -1, 1), rows, (12, 12))
    assert torch.equal(places[..., 0], picture[:, 0])


def test_the_order_of_frames_matters_only_through_places_and_layout():
    detector, clips = tiny().eval(), batch(2)["image"]
    with torch.no_grad():
        one, other = (detector({"image": x}, inference=True)["cls"] for x in (clips, clips.flip(1)))
    assert not torch.allclose(one, other, atol=1e-6)


def test_windows_reach_across_frames():
    """14 patches at the first stage: what one frame shows changes another frame's tokens at once."""
    detector = tiny(window_size=[14, 14, 14, 7], depths=[2, 1, 1, 1], resolution=112).eval()
    swin = detector.trunk.swin
    assert [stage.blocks[0].window_size for stage in swin.layers] == [(14, 14), (14, 14), (7, 7), (4, 4)]
    clips = torch.zeros(1, 4, 3, 112, 112)
    changed = clips.clone()
    changed[:, 0] = 1.0
    with torch.no_grad():
        a, b = (swin.layers[0](swin.patch_embed(thumbnail(x, 2))) for x in (clips, changed))
    assert (a - b)[:, :, 14:].abs().max() > 1e-4  # the frame beside it


def test_loss_is_the_cross_entropy():
    detector, clips = tiny().eval(), batch()
    losses = losses_of(detector, clips, detector(clips))
    logits = detector(clips)["cls"].detach().double().numpy()
    wanted = np.mean([np.log(np.exp(row).sum()) - row[label] for row, label in zip(logits, clips["label"].numpy())])
    assert losses["overall"].item() == pytest.approx(wanted, rel=1e-5)
    assert set(losses) == {"overall", "cls"}


def test_gradients_reach_everything():
    detector = tiny(drop_path_rate=0.0)
    check_gradients(detector, batch())
    assert all(p.requires_grad for p in detector.parameters())


def test_learns_a_handful_of_clips():
    assert overfit(tiny(), batch(6), steps=30, lr=2e-3) == 1.0


def test_checkpointing_and_accumulation_change_nothing_but_memory():
    clips = batch()
    plain = tiny(drop_path_rate=0.0)
    frugal = tiny(drop_path_rate=0.0, grad_checkpointing=True)
    frugal.load_state_dict(plain.state_dict())
    runs = []
    frugal.trunk.swin.layers[1].blocks[0].register_forward_pre_hook(lambda *_: runs.append(1))
    plain.train().get_losses(clips, plain(clips))["overall"].backward()
    frugal.train()
    for half in (slice(0, None, 2), slice(1, None, 2)):
        part = {key: value[half] for key, value in clips.items()}
        (frugal.get_losses(part, frugal(part))["overall"] / 2).backward()
    assert len(runs) == 4  # each half forward and again in backward
    for (name, one), other in zip(plain.named_parameters(), frugal.parameters()):
        torch.testing.assert_close(one.grad, other.grad, atol=2e-6, rtol=1e-4, msg=name)


def settings_of(folder):
    path = folder / "settings.yaml"
    lines = [f"{key}: {value}" for key, value in write_pack(folder).items()]
    lines += [f"{key}: {value}" for key, value in {**TINY, "resolution": 32, "depths": [1, 2, 1, 1]}.items()]
    path.write_text(
        "model_name: tall\npretrained: null\ndataset_type: tall\nrecipe: {mask_grid_size: 8}\n"
        "train_dataset: [FaceForensics++]\ntrain_batchSize: 2\nworkers: 0\nframe_num: {train: 4, val: 4, test: 4}\n"
        "label_dict: {FF-real: 0, FF-DF: 1, FF-NT: 1}\nrec_iter: 1\ndrop_path_rate: 0.3\n"
        "optimizer: {type: adamw, adamw: {lr: 0.001}}\nlr_scheduler: cosine\n" + "\n".join(lines)
    )
    return path


def test_a_resumed_run_ends_with_the_same_bits(tmp_path):
    # Stochastic depth, the block and augmentation are drawn anew at every step.
    settings, whole, parts = settings_of(tmp_path), tmp_path / "whole", tmp_path / "parts"
    keys = {"max_steps": 3, "save_every_steps": 2, "keep_checkpoints": 3}
    assert call(arguments(settings, whole, **keys)) == 0
    kept = {content(path)["step"]: path for path in (whole / "checkpoints").glob("last*.pth")}
    assert call(arguments(settings, parts, "--resume", kept[2], **keys)) == 0
    one, other = (content(run / "checkpoints" / "last.pth") for run in (whole, parts))
    assert one["step"] == other["step"] == 3
    for name in ("model", "optimizer"):
        assert differences(one[name], other[name]) == [], name


def originals(swin):
    """A Swin's state in the form of its first publication, with windows of 7 and a classifier of other classes."""
    state = {}
    for key, value in swin.state_dict().items():
        parts = key.split(".")
        if parts[0] == "layers" and parts[2] == "downsample":
            parts[1] = str(int(parts[1]) - 1)
        state[".".join(parts)] = value
    state |= {"head.weight": torch.zeros(21, 8), "layers.0.blocks.1.attn_mask": torch.zeros(1)}
    return state | {"layers.0.blocks.0.attn.relative_position_index": torch.zeros(1, dtype=torch.long)}


def test_imagenet_weights_load_in_both_forms_and_tables_are_stretched(tmp_path):
    small = tiny(window_size=[2, 2, 2, 2]).trunk.swin
    torch.save({"model": originals(small)}, tmp_path / "original.pth")
    torch.save(small.state_dict() | {"head.fc.weight": torch.zeros(21, 8)}, tmp_path / "timm.pth")
    loaded = [
        build("tall", weights=str(tmp_path / f"{name}.pth"), **TINY).trunk.swin.state_dict()
        for name in ("original", "timm")
    ]
    for key, value in small.state_dict().items():
        assert torch.equal(loaded[0][key], loaded[1][key]), key
        if value.shape == loaded[0][key].shape:
            assert torch.equal(value, loaded[0][key]), key
    table = "layers.0.blocks.0.attn.relative_position_bias_table"
    old, new = (state[table].T.unflatten(1, (-1, side)) for state, side in ((small.state_dict(), 3), (loaded[0], 7)))
    wanted = nn.functional.interpolate(old[None], size=7, mode="bilinear")[0]
    torch.testing.assert_close(new, wanted)
    torch.testing.assert_close(new[:, 3, 3], old[:, 1, 1])  # a patch to itself


def test_weights_of_the_authors_load_and_others_are_refused():
    detector, other = tiny(), tiny()
    theirs = {key: value for key, value in originals(detector.trunk.swin).items() if not key.startswith("head.")}
    theirs |= {
        "frame_pos_embed": torch.randn(1, 4, 16),
        "head.weight": torch.randn(2, 128),
        "head.bias": torch.zeros(2),
    }
    for prefix in ("", "model.", "module.model."):
        other.load_weights({prefix + key: value for key, value in theirs.items()})
        assert torch.equal(other.trunk.frame_pos_embed, theirs["frame_pos_embed"])
        assert torch.equal(other.head.weight, theirs["head.weight"])
        for key, value in detector.trunk.swin.state_dict().items():
            assert torch.equal(other.trunk.swin.state_dict()[key], value), key
        with torch.no_grad():
            [p.zero_() for p in other.parameters()]
    del theirs["layers.2.blocks.1.attn.qkv.weight"]
    with pytest.raises(WeightsError, match=r"missing, first `trunk\.swin\.layers\.2\.blocks\.1\.attn\.qkv\.weight"):
        other.load_weights(theirs)


def test_its_files_and_the_field_s_load(tmp_path):
    paper = load_config(CONFIG_DIR / "detector" / "tall.yaml")
    assert (paper.clip_size, paper.video_mode, paper.recipe) == (4, True, {"mask_grid_size": 32})
    benchmark = load_config(CONFIG_DIR / "detector" / "tall_benchmark.yaml")
    assert (benchmark.nEpochs, benchmark.optimizer.adam.lr, benchmark.recipe) == (100, 2e-5, {"mask_grid_size": 16})
    path = tmp_path / "theirs.yaml"
    path.write_text(
        "model_name: tall\npretrained: null\nresolution: 224\nvideo_mode: True\nclip_size: 4\ndataset_type: tall\n"
        "mask_grid_size: 16\nnum_classes: 2\nembed_dim: 128\nmlp_ratio: 4.0\npatch_size: 4\n"
        "window_size: [14, 14, 14, 7]\ndepths: [2, 2, 18, 2]\nnum_heads: [4, 8, 16, 32]\nape: true\n"
        "thumbnail_rows: 2\ndrop_rate: 0\ndrop_path_rate: 0.1\ntask_target: TALL\n"
    )
    theirs = load_config(path, ["mask_grid_size=8"], quiet=True)
    assert theirs.recipe == {"mask_grid_size": 8}
    assert load_config(path, quiet=True).recipe == {"mask_grid_size": 16}


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (["clip_size=5"], "clip_size 5 does not fill 2 rows"),
        (["resolution=100"], "patches would lie across frames; use 96"),
        (["video_mode=false"], "reads clips"),
        (["num_heads=[3, 8, 16, 32]"], "do not divide"),
    ],
)
def test_settings_that_do_not_fit_are_told(keys, said):
    with pytest.raises(ConfigError, match=said):
        load_config(CONFIG_DIR / "detector" / "tall.yaml", keys)
