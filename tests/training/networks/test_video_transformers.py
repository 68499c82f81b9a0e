"""Where video transformers get their weights: folder, file or hub, in either form, at other sizes; and what is said otherwise."""

import os
import re
from pathlib import Path

import huggingface_hub
import pytest
import torch
from helpers.detector_checks import build
from helpers.video import VIDEO_TRANSFORMERS, clip_batch, tiny
from huggingface_hub.errors import EntryNotFoundError
from safetensors.torch import save_file

import training.networks.weights as weights
from common.errors import WeightsError
from training.config import load_config
from training.config.loader import CONFIG_DIR
from training.networks import hub

each = pytest.mark.parametrize("name", VIDEO_TRANSFORMERS)
# What published files hold besides the trunk, as they name it.
BESIDE = {
    "timesformer": ("timesformer.", ["classifier.weight", "classifier.bias"]),
    "videomae": (
        "videomae.",
        ["videomae.layernorm.bias", "decoder.norm.bias", "encoder_to_decoder.weight", "mask_token"],
    ),
    "xclip": ("vision_model.", ["vision_model.embeddings.position_ids", "text_model.x", "mit.x", "logit_scale"]),
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty `training/pretrained/`, and a hub that nobody may ask."""
    monkeypatch.setattr(weights, "PRETRAINED_DIR", tmp_path)

    def asked(*_, **__):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", asked)
    monkeypatch.setattr(hub, "_reachable", asked)
    return tmp_path


def published(name, seed=5, **keys):
    """Return a trunk's random weights, and the same as published files hold them."""
    torch.manual_seed(seed)
    state = {
        key: torch.randn(value.shape)
        for key, value in build(name, **{**tiny(name), **keys}).backbone.state_dict().items()
    }
    prefix, beside = BESIDE[name]
    return state, {prefix + key: value for key, value in state.items()} | {key: torch.zeros(3) for key in beside}


def write(state, path):
    (save_file if path.suffix == ".safetensors" else torch.save)(state, path)
    return path


@each
@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin"])
@pytest.mark.parametrize("place", ["file", "folder", "pretrained", "hub name"])
def test_weights_of_this_machine_are_taken_without_the_network(folder, name, file, place):
    state, theirs = published(name)
    (folder / "somebodys-video").mkdir()
    path = write(theirs, folder / "somebodys-video" / file)
    asked = {"file": path, "folder": path.parent, "pretrained": "somebodys-video", "hub name": "owner/somebodys-video"}
    found = build(name, weights=str(asked[place]), **tiny(name))
    torch.testing.assert_close(dict(found.backbone.state_dict()), state)
    assert found.training


@each
def test_a_file_under_the_hub_name_is_where_the_sentence_says(folder, name):
    state, theirs = published(name)
    config = load_config(CONFIG_DIR / "detector" / f"{name}.yaml")
    cls = type(build(name, **tiny(name)))
    assert cls.local_weights(config) is None
    file = write(theirs, folder / cls.weights_file(config))
    assert cls.local_weights(config) == file
    found = build(name, weights=config.pretrained, **tiny(name))
    torch.testing.assert_close(dict(found.backbone.state_dict()), state)


@each
def test_a_hub_name_is_fetched_in_either_form(folder, monkeypatch, name):
    state, theirs = published(name)
    path, asked = write(theirs, folder / "fetched.bin"), []

    def download(owner, file):
        asked.append((owner, file))
        if file == "model.safetensors":
            raise EntryNotFoundError("404")
        return str(path)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    monkeypatch.setattr(hub, "_reachable", lambda: True)
    found = build(name, weights="owner/clips-base", **tiny(name))
    torch.testing.assert_close(dict(found.backbone.state_dict()), state)
    assert asked == [("owner/clips-base", "model.safetensors"), ("owner/clips-base", "pytorch_model.bin")]


@each
def test_out_of_reach_it_is_one_sentence(tmp_path, monkeypatch, name):
    # Hugging Face's own switch, and an empty cache.
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    asked = "nobody/has-this-video-model"
    with pytest.raises(WeightsError) as caught:
        build(name, weights=asked, **tiny(name))
    said = str(caught.value)
    assert said.startswith(f"the weights `{asked}` cannot be fetched (ConnectionError); put its model.safetensors or ")
    assert os.path.join("training", "pretrained", "has-this-video-model.safetensors") in said
    assert said.endswith("or write null")
    assert "\n" not in said


@each
@pytest.mark.parametrize(
    "asked", ["nothing", "weights/mine.pth", "./mine/file.safetensors", "/no/such/folder", "a b/c"]
)
def test_what_is_no_name_is_not_asked_for(folder, name, asked):
    default = load_config(CONFIG_DIR / "detector" / f"{name}.yaml").pretrained
    with pytest.raises(
        WeightsError, match=f"`{re.escape(asked)}` is neither a file nor a folder .*`{default}`.*or null"
    ):
        build(name, weights=asked, **tiny(name))


@each
def test_weights_of_another_size_say_which_keys_to_set(folder, name):
    _, theirs = published(name, **tiny(name, width=48, depth=3))
    path = write(theirs, folder / "large.bin")
    keys = "set backbone_config.width=48, backbone_config.depth=3, backbone_config.patch=16, or name other weights"
    with pytest.raises(WeightsError, match=rf"large\.bin holds a network of another size: {keys}"):
        build(name, weights=str(path), **tiny(name))


@each
def test_a_part_of_the_weights_is_refused(folder, name):
    _, theirs = published(name)
    missing = next(key for key in theirs if ".1." in key)
    del theirs[missing]
    path = write(theirs, folder / "part.bin")
    with pytest.raises(WeightsError, match=r"part\.bin does not hold the weights of this network: 1 of \d+ tensors"):
        build(name, weights=str(path), **tiny(name))


@each
@pytest.mark.parametrize("keys", [{"resolution": 64}, {"clip_size": 8}])
def test_weights_serve_other_frames_and_clips(folder, name, keys):
    state, theirs = published(name)
    found = build(name, weights=str(write(theirs, folder / "mine.bin")), **{**tiny(name), **keys}).eval()
    own = found.backbone.state_dict()
    changed = {key for key in own if own[key].shape != state[key].shape}
    assert all("position_embedding" in key or "time_embedding" in key for key in changed)
    torch.testing.assert_close({k: own[k] for k in own.keys() - changed}, {k: state[k] for k in own.keys() - changed})
    size = {"resolution": 32, "clip_size": 4, **keys}
    with torch.no_grad():
        assert found(clip_batch(2, size["resolution"], size["clip_size"]))["prob"].isfinite().all()


def test_embeddings_of_time_are_the_nearest_and_of_place_interpolated(folder):
    state, theirs = published("timesformer")
    ramp = torch.arange(2.0).repeat_interleave(2)  # from top to bottom
    theirs["timesformer.embeddings.position_embeddings"][0, 1:] = ramp[:, None]
    keys = {**tiny("timesformer"), "resolution": 64, "clip_size": 8}
    own = build("timesformer", weights=str(write(theirs, folder / "mine.bin")), **keys).backbone.embeddings
    times = state["embeddings.time_embeddings"]
    torch.testing.assert_close(own.time_embeddings.data, times.repeat_interleave(2, dim=1))
    places = own.position_embeddings[0].detach()
    torch.testing.assert_close(places[0], theirs["timesformer.embeddings.position_embeddings"][0, 0])
    grid = places[1:].reshape(4, 4, -1)
    assert (grid.diff(dim=0) > -1e-6).all()
    torch.testing.assert_close(grid, grid[:, :1].expand(-1, 4, -1))


def test_the_readme_names_every_default():
    text = (Path(weights.__file__).parents[1] / "pretrained" / "README.md").read_text()
    for name in VIDEO_TRANSFORMERS:
        assert f"`{load_config(CONFIG_DIR / 'detector' / f'{name}.yaml').pretrained}`" in text
