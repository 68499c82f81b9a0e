"""The typed configuration: precedence, mistakes answered with file, line and remedy, foreign files."""

import logging
import re
from pathlib import Path

import pytest

from common.errors import ConfigError
from common.yaml_source import Source
from training.config import CONFIG_DIR, load_config, save_config
from training.config.origins import annotated
from training.detectors.registry import config_class

MINIMAL = "model_name: clip\n"


@pytest.fixture
def write(tmp_path):
    def _write(text: str, name: str = "detector.yaml") -> Path:
        path = tmp_path / name
        path.write_text(text)
        return path

    return _write


def error_of(path, *overrides) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(path, overrides)
    return str(caught.value)


def test_precedence_default_base_detector_command_line(write):
    # `lmdb` stands in train_config.yaml, `nEpochs` only in the built-in defaults.
    assert load_config(write(MINIMAL)).lmdb is False
    assert load_config(write(MINIMAL)).nEpochs == 10
    path = write(MINIMAL + "lmdb: true\nnEpochs: 3\n")
    assert (load_config(path).lmdb, load_config(path).nEpochs) == (True, 3)
    config = load_config(path, ["nEpochs=7", "lmdb=false"])
    assert (config.lmdb, config.nEpochs) == (False, 7)


def test_later_overrides_win_and_numbers_are_numbers(write):
    config = load_config(write(MINIMAL), ["optimizer.adam.lr=1e-3", "optimizer.adam.lr=1e-4"])
    assert config.optimizer.adam.lr == pytest.approx(1e-4)
    assert isinstance(config.optimizer.adam.lr, float)


def test_label_dict_merges_key_by_key(write):
    config = load_config(write(MINIMAL + "label_dict:\n  my_fake: 1\n  FF-real: 1\n"))
    assert config.label_dict["my_fake"] == 1
    assert config.label_dict["FF-real"] == 1
    assert config.label_dict["FF-DF"] == 1
    assert config.label_dict["DFD_real"] == 0


def test_sections_merge_and_lists_replace(write):
    config = load_config(write(MINIMAL + "data_aug: {flip_prob: 0.25}\nmean: [0.1, 0.2, 0.3]\n"))
    assert config.data_aug.flip_prob == 0.25
    assert config.data_aug.rotate_prob == 0.5
    assert config.mean == [0.1, 0.2, 0.3]


def test_one_dataset_may_be_a_word(write):
    assert load_config(write(MINIMAL), ["test_dataset=Celeb-DF-v2"]).test_dataset == ["Celeb-DF-v2"]


def test_unknown_key_names_file_line_and_nearest(write):
    message = error_of(write(MINIMAL + "nEpoch: 3\n"))
    assert "detector.yaml:2" in message
    assert "`nEpoch`" in message
    assert "`nEpochs`" in message


def test_unknown_key_in_a_section_lists_that_section(write):
    message = error_of(write(MINIMAL + "data_aug:\n  flip_prob: 0.5\n  zzz: 1\n"))
    assert "detector.yaml:4" in message
    assert "rotate_prob" in message
    assert "nEpochs" not in message


def test_unknown_override_says_it_came_from_the_command_line(write):
    message = error_of(write(MINIMAL), "optimizer.adma.lr=1")
    assert "--set optimizer.adma.lr=1" in message
    assert "`adam`" in message


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("nEpochs: many", "integer"),
        ("optimizer: {type: adagrad}", "'adam'"),
        ("mean: [0.5, 0.5]", "3 items"),
        ("metric_scoring: f1", "'auc'"),
        ("data_aug: {flip_prob: 2}", "less than or equal to 1"),
        ("data_aug: {quality_lower: 90, quality_upper: 50}", "quality_lower 90 is above"),
        ("video_mode: true", "clip_size"),
        ("train_batchSize: 0", "greater than or equal to 1"),
    ],
)
def test_wrong_values_name_line_and_what_is_allowed(write, line, expected):
    message = error_of(write(MINIMAL + line + "\n"))
    assert "detector.yaml" in message
    assert expected in message
    assert "\n" not in message


def test_unknown_detector_names_the_nearest(write):
    message = error_of(write("model_name: cilp\n"))
    assert "detector.yaml:1" in message
    assert "`clip`" in message


def test_missing_model_name_missing_file_and_broken_yaml(write, tmp_path):
    assert "`model_name` is missing" in error_of(write("nEpochs: 3\n"))
    assert "no such configuration file" in error_of(tmp_path / "nowhere.yaml")
    message = error_of(write("model_name: clip\n  nEpochs: [3\n"))
    assert "not valid YAML" in message
    assert "detector.yaml:" in message
    assert "top level" in error_of(write("- a\n- b\n"))


def test_malformed_override(write):
    assert "key=value" in error_of(write(MINIMAL), "nEpochs")


def test_yaml_cannot_make_objects(write):
    message = error_of(write(MINIMAL + "log_dir: !!python/object/apply:os.system ['true']\n"))
    assert "not valid YAML" in message


@pytest.mark.parametrize("value", ["false", "'None'"])
def test_pretrained_false_is_null_with_a_warning(write, caplog, value):
    with caplog.at_level(logging.WARNING, "clipdeepfake"):
        assert load_config(write(MINIMAL + f"pretrained: {value}\n")).pretrained is None
    assert "taken as null" in caplog.text


def test_pretrained_address_and_list_are_refused(write):
    assert "download" in error_of(write(MINIMAL + "pretrained: https://example.org/a.pth\n"))
    assert "a tag, the path" in error_of(write(MINIMAL + "pretrained: [a]\n"))


def test_pretrained_prose_falls_back_to_the_default(write, caplog):
    with caplog.at_level(logging.WARNING, "clipdeepfake"):
        config = load_config(write(MINIMAL + "pretrained: no need to provide this\n"))
    assert config.pretrained == type(config).model_fields["pretrained"].default
    assert "prose" in caplog.text


FOREIGN = """
log_dir: /data/home/somebody/logs_debug/clip
pretrained: /data/home/somebody/training/pretrained/xception-b5690688.pth
model_name: clip
backbone_name: vit
backbone_config:
  mode: original
  num_classes: 2
  inc: 3
  dropout: false
all_dataset: [FaceForensics++, FF-F2F]
train_dataset: [FaceForensics++]
frame_num: {'train': 32, 'test': 32}
nEpochs: 5
nEpochs: 10
logdir: ./logs
losstype: null
lr_scheduler: null
cuda: true
cudnn: true
ngpu: 1
"""


def test_a_deepfakebench_file_loads_with_one_warning(write, caplog):
    with caplog.at_level(logging.WARNING, "clipdeepfake"):
        config = load_config(write(FOREIGN))
    assert len(caplog.records) == 1
    for word in (
        "log_dir",
        "all_dataset",
        "cuda",
        "cudnn",
        "ngpu",
        "logdir",
        "losstype",
        "first of two `nEpochs`",
        "xception",
    ):
        assert word in caplog.text
    assert config.nEpochs == 10
    assert config.log_dir == "./logs"
    assert config.backbone_config.dropout == 0
    assert config.pretrained == "openai"


def test_effective_config_rebuilds_itself(write, tmp_path):
    config = load_config(write(MINIMAL + "nEpochs: 3\ntest_dataset: [A, B]\n"), ["optimizer.sgd.lr=0.5"])
    save_config(config, tmp_path / "run" / "config.yaml")
    again = load_config(tmp_path / "run" / "config.yaml")
    assert again == config
    assert type(again) is type(config)


def test_every_shipped_detector_yaml_loads_without_a_warning(caplog):
    from training.config import CONFIG_DIR

    paths = sorted((CONFIG_DIR / "detector").glob("*.yaml"))
    assert paths
    with caplog.at_level(logging.WARNING, "clipdeepfake"):
        for path in paths:
            load_config(path)
            load_config(path, mode="test")
    assert not caplog.records


def test_one_number_of_frames_is_for_all_splits(write):
    frames = load_config(write(MINIMAL + "frame_num: 16\n")).frame_num
    assert (frames.train, frames.val, frames.test) == (16, 16, 16)
    frames = load_config(write(MINIMAL + "frame_num: 16\n"), ["frame_num.test=4"]).frame_num
    assert (frames.train, frames.test) == (16, 4)
    frames = load_config(write(MINIMAL + "frame_num: {train: 8, test: 12}\n"), ["frame_num=5"]).frame_num
    assert (frames.train, frames.test) == (5, 5)


@pytest.mark.parametrize("word", ["None", "none", "null", "false", "~", "'None'"])
@pytest.mark.parametrize(
    "key", ["lr_scheduler", "grad_clip", "max_steps", "early_stopping", "val_dataset", "ema_decay"]
)
def test_pythons_none_is_null(write, key, word):
    assert getattr(load_config(write(MINIMAL + f"{key}: {word}\n")), key) is None
    assert getattr(load_config(write(MINIMAL), [f"{key}={word}"]), key) is None


def test_false_stays_false_where_it_is_an_answer(write):
    assert load_config(write(MINIMAL + "compile: false\nlmdb: false\n")).compile is False
    assert load_config(write("model_name: capsule_net\nfreeze_vgg: false\n")).freeze_vgg is False


@pytest.mark.parametrize(("text", "names"), [("frame_num: many", "train, val, test"), ("optimizer: adam", "type, adam"),
                                             ("data_aug: true", "flip_prob")])  # fmt: skip
def test_a_word_where_a_group_of_keys_belongs_lists_the_keys(write, text, names):
    message = error_of(write(MINIMAL + text + "\n"))
    assert "detector.yaml:2" in message
    assert f"it is a group of keys ({names}" in message
    assert "instance" not in message


def test_every_key_is_printed_with_its_origin_and_rebuilds_the_configuration(write, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = write("model_name: xception\nresolution: 128\ndata_aug:\n  flip_prob: 0.25\nlabel_dict: {mine: 1}\n")
    overrides = ["optimizer.adam.lr=0.01", "resolution=64"]
    text = annotated(path, overrides)
    lines = [line for line in text.splitlines() if "#" in line]
    # From the end, so that of the optimisers' equal keys Adam's, the first, is kept.
    origins = {line.split(":")[0].strip(): line.rpartition("#")[2].strip() for line in reversed(lines)}
    assert (origins["model_name"], origins["flip_prob"], origins["mine"]) == tuple(
        f"detector.yaml:{n}" for n in (1, 4, 5)
    )
    assert (origins["resolution"], origins["lr"], origins["rotate_prob"]) == ("command line", "command line", "default")
    assert origins["SWA"].endswith("train_config.yaml:7")
    again = tmp_path / "printed.yaml"
    again.write_text(text)
    assert load_config(again) == load_config(path, overrides)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("dataset_type: sbi\nrecipe:\n  shares: 0.5\n", r"detector\.yaml:4: unknown key `shares` in `recipe`; "),
        (
            "dataset_type: facexray\nrecipe: {nearst: 3}\n",
            r"detector\.yaml:3: unknown key `nearst` in `recipe`; did you mean `nearest`",
        ),
        ("recipe: {anything: 1}\n", r"detector\.yaml:2: unknown key `anything` in `recipe`; there are none here"),
        ("dataset_type: pears\n", r"detector\.yaml:2: dataset_type: there is no recipe `pears`; did you mean `pairs`"),
    ],
)
def test_a_recipes_keys_are_checked_when_the_file_is_loaded(write, text, words):
    assert re.search(words, error_of(write("model_name: xception\n" + text)))


def leaves(values, above=()):
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, (*above, key))
        else:
            yield (*above, key), value


@pytest.mark.parametrize("path", sorted((CONFIG_DIR / "detector").glob("[!d]*.yaml")), ids=lambda path: path.stem)
def test_a_shipped_yaml_says_what_differs(path):
    """A key at its default stands there only for what its comment says."""
    source, config = Source.from_file(path), load_config(path)
    default = dict(leaves(config_class(config.model_name)(model_name=config.model_name).model_dump(mode="json")))
    text = path.read_text().splitlines()
    given = [(key, value) for key, value in leaves(source.values) if key != ("model_name",)]
    same = [key for key, value in given if default.get(key, ...) == value]
    assert not [".".join(key) for key in same if key in source.lines and "#" not in text[source.lines[key] - 1]]
