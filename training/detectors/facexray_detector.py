"""Face X-ray: predict the boundary along which a face was blended in, and judge by that picture alone.

Li et al., "Face X-ray for More General Face Forgery Detection", CVPR 2020. HRNet features are reduced to one map, the X-ray,
at the input's resolution; a small classifier reads the X-ray and nothing else. Trained without any forgery: the recipe
`facexray` blends real faces into real faces (training/dataset/recipes/facexray_recipe.py).

    L = λ · L_xray + L_cls        per-pixel cross-entropy of the X-ray, λ = 100, and cross-entropy of the class.

What differs from the paper: the classifier is three fully connected layers on the X-ray pooled to 128×128, as in
DeepfakeBench, where the paper pools globally before one layer; it reads the X-ray's logits, so that published weights
mean the same. What DeepfakeBench does otherwise: squared error on those logits with weight 1000 instead of cross-entropy with
weight 100 (`loss_func.mask_loss: mse`, `xray_weight: 1000`); its configuration names EfficientNet-B4 and builds HRNet-W48.

Input 256×256. 84.2 M parameters, 29.2 G multiply-adds per image at that size.
"""

from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from training.batch import Batch
from training.config.schema import Config, NonNegative, Section
from training.detectors.base import Detector, DetectorCard, Losses, Prediction
from training.detectors.parts.facexray import xray_loss, xray_of_mask
from training.detectors.registry import register_detector
from training.loss.classification import cross_entropy, fake_probability
from training.loss.masked import known_masks, known_mean
from training.networks.hrnet import HEAD_KEYS, build_hrnet, stack_branches, stacked_channels
from training.networks.weights import State, rename

_POOLED = 128


class XrayLosses(Section):
    """The two losses by the field's names."""

    cls_loss: Literal["cross_entropy"] = "cross_entropy"
    mask_loss: Literal["bce", "mse"] = Field("bce", description="bce: the paper's; mse: DeepfakeBench's, on logits")


class FaceXrayConfig(Config):
    """Face X-ray's own keys."""

    backbone_name: str = Field("hrnet_w48", description="timm's name of an HRNet")
    dataset_type: str | None = "facexray"
    loss_func: XrayLosses = XrayLosses()  # type: ignore[assignment,call-arg]
    xray_weight: NonNegative = Field(100.0, description="λ, the weight of the X-ray's loss")


@register_detector(FaceXrayConfig)
class FaceXrayDetector(Detector):
    """HRNet → X-ray → class."""

    card = DetectorCard(
        title="Face X-ray",
        kind="spatial",
        paper="Face X-ray for More General Face Forgery Detection",
        year=2020,
        url="https://arxiv.org/abs/1912.13458",
        parity="DeepfakeBench: outputs, losses and gradient norm",
    )
    unused_keys = (HEAD_KEYS,)

    config: FaceXrayConfig

    def __init__(self, config: FaceXrayConfig, data_info: Any = None, pretrained: bool = True):
        super().__init__(config, data_info, pretrained)
        self.backbone = build_hrnet(config.backbone_name, config.pretrained if pretrained else None)
        self.xray_head = nn.Sequential(
            *_conv_block(stacked_channels(self.backbone), 256), *_conv_block(256, 128), nn.Conv2d(128, 1, 1)
        )
        self.decision = nn.Sequential(
            *_dense_block(_POOLED * _POOLED, 1024), *_dense_block(1024, 128), nn.Linear(128, 2)
        )

    def forward(self, batch: Batch, inference: bool = False) -> Prediction:
        image = batch["image"]
        coarse = self.xray_head(stack_branches(self.backbone(image)))  # (B, 1, H/4, W/4)
        xray = F.interpolate(coarse, size=image.shape[-2:], mode="bilinear", align_corners=True)
        feat = F.adaptive_avg_pool2d(xray, _POOLED).flatten(1)  # (B, 128·128)
        cls = self.decision(feat)  # (B, 2)
        return {"cls": cls, "prob": fake_probability(cls), "feat": feat, "mask_pred": xray}

    def loss_weights(self) -> dict[str, float]:
        return {"mask": self.config.xray_weight}

    def counts(self, batch: Batch) -> dict[str, Tensor]:
        return {"mask": self._known(batch).sum()}

    def _known(self, batch: Batch) -> Tensor:
        """Return `(B,)` bool: whose X-ray is known. The recipe knows all; a stored mask may be lacking."""
        if "xray" in batch:
            return torch.ones_like(batch["label"], dtype=torch.bool)
        return known_masks(batch["mask"], batch["label"])

    def get_losses(self, batch: Batch, prediction: Prediction) -> Losses:
        target = batch["xray"] if "xray" in batch else xray_of_mask(batch["mask"])
        cls = cross_entropy(prediction["cls"], batch["label"])
        each = self._xray_loss(prediction["mask_pred"].float(), target.float())
        xray = known_mean(each, self._known(batch), batch.get("counts", {}).get("mask"))
        return self.summed({"cls": cls, "mask": xray})

    def _xray_loss(self, logit: Tensor, target: Tensor) -> Tensor:
        """Return the mean over each image's pixels, `(B,)`."""
        target = target.reshape_as(logit)
        if self.config.loss_func.mask_loss == "mse":
            return (logit - target).square().mean((1, 2, 3))
        return xray_loss(logit, target, each=True)

    def convert_keys(self, state: State) -> State:
        return rename(state, [(r"^post_process\.", "xray_head."), (r"^fc\.", "decision.")])


def _conv_block(inputs: int, outputs: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)


def _dense_block(inputs: int, outputs: int) -> tuple[nn.Module, ...]:
    return nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs), nn.ReLU(inplace=True)
