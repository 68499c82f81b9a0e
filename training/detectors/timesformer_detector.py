"""TimeSformer: a ViT whose blocks attend first over time, each place by itself, then over the places of each frame.

Bertasius et al., "Is Space-Time Attention All You Need for Video Understanding?", ICML 2021. The paper recognises actions;
its use as a detector, a linear layer on CLS that is trained with all of the network by cross-entropy, and the optimiser are
DeepfakeBench's, whose weights give their numbers here. It begins with the authors' weights of Kinetics-400.

What differs from the paper: Adam at one rate for all, where the authors take SGD (0.005, divided by ten late). What differs
from DeepfakeBench: nothing. Its file names no weights that exist; those here are what its code asks for by such a name.
Clips of other lengths or sizes than the weights' have their embeddings of time and place interpolated.

Input 8 × 224 × 224. 121.3 M parameters, 195.8 G multiply-adds per clip; on one core of an AMD EPYC 0.13 clips/s with
1.4 GB, and a training step of one clip takes 26 s and 3.5 GB (31 s and 3.2 GB with `grad_checkpointing`).
"""

from __future__ import annotations

from pydantic import Field
from torch import Tensor

from training.detectors.base import DetectorCard
from training.detectors.registry import register_detector
from training.detectors.video_base import VideoTransformerDetector
from training.networks.video_transformers import Architecture, VideoTransformerConfig

_K400 = "facebook/timesformer-base-finetuned-k400"


class TimesformerConfig(VideoTransformerConfig):
    """TimeSformer's own keys."""

    pretrained: str | None = Field(_K400, description="a name of Hugging Face's hub, a file or folder, or null")


@register_detector(TimesformerConfig)
class TimeSformer(VideoTransformerDetector):
    """CLS after the last norm → linear."""

    architecture = Architecture("Timesformer", "TimesformerModel", "timesformer", (r"^classifier\.",), _K400)
    card = DetectorCard(
        "TimeSformer", "video", "Is Space-Time Attention All You Need for Video Understanding?", 2021,
        "https://arxiv.org/abs/2102.05095", "outputs and losses of DeepfakeBench",
    )  # fmt: skip

    def pooled(self, clip: Tensor) -> Tensor:
        return self.backbone(clip).last_hidden_state[:, 0]
