"""Settings written the field's way load for every detector of its table, and mean what they say."""

import logging

import pytest

from training.config import load_config
from training.detectors import available_detectors

# The keys and the habits of the field's files: keys nobody reads, keys given twice, paths of another machine.
TEXT = """# log dir
log_dir: /mntsomebody/benchmark/logs/run_{name}

# model setting
pretrained: {pretrained}   # path to a pre-trained model, if using one
model_name: {name}   # model name
backbone_name: {backbone}  # backbone name
backbone_config:
  mode: {mode}
  num_classes: 2
  inc: {channels}
  dropout: false

# dataset
all_dataset: [FaceForensics++, Celeb-DF-v2]
train_dataset: [FF-F2F]
test_dataset: [FF-DF, Celeb-DF-v2]
compression: c40
train_batchSize: 16
test_batchSize: 24
workers: 3
frame_num: {{'train': 8, 'test': 16}}
resolution: 256
with_mask: false
with_landmark: false
save_ckpt: true
save_feat: true

# data augmentation
use_data_augmentation: true
data_aug:
  flip_prob: 0.25
  rotate_prob: 0.5
  rotate_limit: [-5, 5]
  blur_prob: 0.5
  blur_limit: [3, 7]
  brightness_prob: 0.5
  brightness_limit: [-0.1, 0.1]
  contrast_limit: [-0.1, 0.1]
  quality_lower: 60
  quality_upper: 100

mean: [0.5, 0.5, 0.5]
std: [0.5, 0.5, 0.5]

optimizer:
  type: sgd
  adam:
    lr: 0.0003
    beta1: 0.9
    beta2: 0.99
    eps: 0.00000001
    weight_decay: 0.0001
    amsgrad: false
  sgd:
    lr: 0.02
    momentum: 0.8
    weight_decay: 0.0001

lr_scheduler: null
nEpochs: 4
start_epoch: 0
save_epoch: 1
rec_iter: 50
logdir: ./logs
manualSeed: 7
save_ckpt: false
loss_func: {loss}
losstype: null

metric_scoring: auc
ngpu: 1
cuda: true
cudnn: true
"""
# name → backbone_name, backbone_config.mode, pretrained, as such files have them
TABLE = {
    "capsule_net": ("vgg19", "original", "null"),
    "clip": ("vit", "original", "/mntsomebody/weights/xception-b5690688.pth"),
    "core": ("xception", "original", "./training/pretrained/xception-b5690688.pth"),
    "efficientnetb4": ("efficientnetb4", "Original", "./training/pretrained/efficientnet-b4-6ed6700e.pth"),
    "f3net": ("xception", "original", "./training/pretrained/xception-b5690688.pth"),
    "facexray": ("efficientnetb4", "original", "./training/pretrained/efficientnet-b4-6ed6700e.pth"),
    "ffd": ("xception", "original", "./training/pretrained/xception-b5690688.pth"),
    "fwa": ("xception", "original", "./training/pretrained/xception-b5690688.pth"),
    "meso4": ("meso4", "original", "false"),
    "meso4Inception": ("meso4Inception", "original", "false"),
    "pcl_xception": ("xception_sladd", "original", "./training/pretrained/xception-b5690688.pth"),
    "recce": ("xception", "original", "/mntsomebody/weights/xception-b5690688.pth"),
    "resnet34": ("resnet34", "Original", "/mntsomebody/weights/resnet34-b627a593.pth"),
    "spsl": ("xception", "original", "./training/pretrained/xception-b5690688.pth"),
    "srm": ("xception", "original", "./training/pretrained/xception-b5690688.pth"),
    "ucf": ("xception", "adjust_channel", "./training/pretrained/xception-b5690688.pth"),
    "xception": ("xception", "original", "'None'"),
}


LOSSES = {
    "capsule_net": "capsule_loss",
    "core": "consistency_loss",
    "facexray": "{cls_loss: cross_entropy, mask_loss: bce}",
    "ffd": "{cls_loss: cross_entropy, mask_loss: l1loss}",
    "srm": "am_softmax",
    "ucf": "{cls_loss: cross_entropy, spe_loss: cross_entropy, con_loss: contrastive_regularization, rec_loss: l1loss}",
}


@pytest.mark.parametrize("name", TABLE)
def test_a_file_of_the_field_loads(name, tmp_path, caplog):
    assert name in available_detectors()
    backbone, mode, pretrained = TABLE[name]
    path = tmp_path / f"{name}.yaml"
    own = {"loss": LOSSES.get(name, "cross_entropy"), "channels": 4 if name == "spsl" else 3}
    path.write_text(TEXT.format(name=name, backbone=backbone, mode=mode, pretrained=pretrained, **own))
    with caplog.at_level(logging.WARNING, "clipdeepfake"):
        config = load_config(path)
    assert config.model_name == name
    assert (config.train_dataset, config.test_dataset) == (["FF-F2F"], ["FF-DF", "Celeb-DF-v2"])
    assert (config.compression, config.train_batchSize, config.test_batchSize) == ("c40", 16, 24)
    assert (config.frame_num.train, config.frame_num.test, config.workers) == (8, 16, 3)
    assert (config.data_aug.flip_prob, config.data_aug.quality_lower) == (0.25, 60)
    assert (config.optimizer.type, config.optimizer.sgd.lr, config.optimizer.adam.beta2) == ("sgd", 0.02, 0.99)
    assert (config.nEpochs, config.manualSeed, config.save_ckpt) == (4, 7, False)
    assert config.backbone_config.dropout == 0
    assert "somebody" not in config.log_dir
    (record,) = caplog.records
    for word in (
        "all_dataset",
        "cuda",
        "cudnn",
        "ngpu",
        "logdir",
        "losstype",
        "log_dir: /mntsomebody",
        "two `save_ckpt`",
    ):
        assert word in record.getMessage()
