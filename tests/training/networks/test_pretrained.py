"""Where a trunk's first weights come from, and what is said when they cannot be had."""

import logging
import os
import subprocess
import sys
import threading
from pathlib import Path
from urllib.error import URLError

import pytest
import timm
import torch
from helpers.detector_checks import build
from helpers.pack import write_pack
from safetensors.torch import save_file

import training.networks.weights as weights
from common.errors import WeightsError
from training.networks import clip_names, hub, pretrained
from training.networks.pretrained import load_pretrained, local_trunk

ROOT = Path(__file__).parents[3]
TAG, ARCHITECTURE = "resnet10t.c3_in1k", "resnet10t"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty `training/pretrained/`."""
    monkeypatch.setattr(weights, "PRETRAINED_DIR", tmp_path)
    return tmp_path


@pytest.fixture
def no_network(monkeypatch):
    """Building as ever, downloading not."""
    create = timm.create_model

    def offline(name, pretrained=False, **keys):
        if pretrained:
            raise URLError("no route to host")
        return create(name, **keys)

    monkeypatch.setattr(timm, "create_model", offline)


def trunk(seed):
    torch.manual_seed(seed)
    return timm.create_model(ARCHITECTURE)


@pytest.mark.parametrize(
    ("asked", "file"),
    [
        ("legacy_xception.tf_in1k", "xception-b5690688.pth"),
        ("legacy_xception", "xception-b5690688.pth"),
        ("tf_efficientnet_b4.aa_in1k", "efficientnet-b4-6ed6700e.pth"),
        ("resnet34.tv_in1k", "resnet34-b627a593.pth"),
        ("resnet34.tv_in1k", "resnet34-333f7ec4.pth"),
        ("timm/resnet34.tv_in1k", "resnet34-b627a593.pth"),
        ("hf-hub:timm/resnet34.tv_in1k", "resnet34.tv_in1k.safetensors"),
        ("vgg19.tv_in1k", "vgg19-dcbb9e9d.pth"),
        ("hrnet_w48.ms_in1k", "hrnetv2_w48_imagenet_pretrained.pth"),
        ("hrnet_w18.ms_in1k", "hrnetv2_w18_imagenet_pretrained.pth"),
    ],
)
def test_a_tag_means_the_file_that_its_weights_were_published_as(folder, asked, file):
    assert local_trunk(asked) is None
    (folder / file).touch()
    assert local_trunk(asked) == folder / file
    assert local_trunk("resnet34.bt_in1k") is None


def test_every_file_of_the_readme_is_found_and_has_an_address():
    text = (ROOT / "training/pretrained/README.md").read_text()
    for files in pretrained._PUBLISHED.values():
        assert files[0] in text or "hrnetv2" in files[0]
    for file, repository in clip_names.OPENAI.values():
        assert f"`{file}`" in text
        assert repository in text
    assert text.count("https://") >= 6


def test_out_of_reach_is_said_at_once_and_nothing_else_is(monkeypatch, caplog, capsys):
    from huggingface_hub import constants

    asked = []

    def ask():
        asked.append(constants.HF_HUB_OFFLINE)
        logging.getLogger("huggingface_hub").warning("retrying")
        print("Downloading", file=sys.stderr)
        raise FileNotFoundError("no such entry")

    monkeypatch.setattr(hub, "_reachable", lambda: False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with pytest.raises(ConnectionError, match="out of reach"):
        hub.fetched(ask)
    assert asked == [True]
    assert constants.HF_HUB_OFFLINE is False
    assert (caplog.text, capsys.readouterr().err) == ("", "")
    assert hub.fetched(lambda: 3) == 3  # what the cache holds is found


def test_a_hub_that_never_answers_is_not_waited_for(monkeypatch):
    import huggingface_hub

    waiting = threading.Event()
    monkeypatch.setattr(hub, "_PATIENCE", 0.05)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub, "get_session", lambda: waiting.wait(30))
    assert not hub._reachable()
    waiting.set()


def test_null_leaves_the_trunk_as_it_is():
    net, same = trunk(0), trunk(0)
    load_pretrained(net, None, ARCHITECTURE)
    torch.testing.assert_close(dict(net.state_dict()), dict(same.state_dict()))


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("asked", [TAG, "mine"])
def test_a_file_of_the_wishs_name_is_taken_before_the_network(folder, no_network, asked, suffix):
    assert local_trunk(asked) is None
    published, net = trunk(1), trunk(2)
    save = save_file if suffix == ".safetensors" else torch.save
    save(published.state_dict(), folder / f"{asked}{suffix}")
    load_pretrained(net, asked, ARCHITECTURE)
    torch.testing.assert_close(dict(net.state_dict()), dict(published.state_dict()))
    assert local_trunk(asked) == folder / f"{asked}{suffix}"


@pytest.mark.parametrize("asked", [TAG, ARCHITECTURE])
def test_a_tag_out_of_reach_names_the_file_to_put_where(folder, no_network, asked):
    with pytest.raises(WeightsError) as error:
        load_pretrained(trunk(0), asked, ARCHITECTURE)
    message = str(error.value)
    assert message.startswith(f"the weights `{TAG}` cannot be fetched (URLError); put them as ")
    assert os.path.join("training", "pretrained", f"{TAG}.safetensors") in message
    assert "or write null" in message
    assert "\n" not in message


def test_every_detectors_default_tag_is_known(no_network, folder):
    # A tag that is no tag would be told so; one that is would be fetched.
    for name, tag in (
        ("resnet34", "resnet34.tv_in1k"),
        ("xception", "legacy_xception.tf_in1k"),
        ("capsule_net", "vgg19.tv_in1k"),
        ("efficientnetb4", "tf_efficientnet_b4.aa_in1k"),
        ("facexray", "hrnet_w48.ms_in1k"),
    ):
        settings = (ROOT / "training" / "config" / "detector" / f"{name}.yaml").read_text()
        assert f"\npretrained: {tag} " in settings
        with pytest.raises(WeightsError, match=f"`{tag}` cannot be fetched"):
            build(name, weights=tag)


def test_another_architectures_tag_is_none(folder):
    with pytest.raises(WeightsError, match=rf"`resnet34\.tv_in1k` is neither a file .* tags: .*{TAG}.*, or null"):
        load_pretrained(trunk(0), "resnet34.tv_in1k", ARCHITECTURE)


def test_another_networks_file_is_refused(folder):
    torch.save(timm.create_model("resnet18").state_dict(), folder / "mine.pth")
    net, same = trunk(3), trunk(3)
    with pytest.raises(WeightsError, match=r"mine\.pth does not hold the weights of this network"):
        load_pretrained(net, "mine", ARCHITECTURE)
    torch.testing.assert_close(dict(net.state_dict()), dict(same.state_dict()))


def test_the_command_line_says_it_in_one_sentence(tmp_path):
    keys = write_pack(tmp_path, size=32)
    settings = [part for key, value in keys.items() for part in ("--set", f"{key}={value}")]
    settings += ["--set", "resolution=32", "--set", "workers=0", "--set", "train_dataset=FaceForensics++"]
    # Not the default's tag, whose file a user may have.
    settings += ["--set", "test_dataset=FaceForensics++", "--set", "pretrained=resnet34.bt_in1k"]
    # Hugging Face's own switch: an empty cache and no network.
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hub"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "training/train.py", "--detector_path", "training/config/detector/resnet34.yaml",
         "--device", "cpu", "--max_steps", "1", "--log_dir", str(tmp_path / "run"), *settings],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr[-2000:]
    assert "Traceback" not in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert "`resnet34.bt_in1k` cannot be fetched" in last
    assert os.path.join("training", "pretrained", "resnet34.bt_in1k.safetensors") in last
