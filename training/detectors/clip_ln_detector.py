"""CLIP with its LayerNorms tuned and features on the hypersphere.

Papers: Yermakov, Cech & Matas, "Unlocking the Hidden Potential of CLIP in Generalizable Deepfake Detection" (arXiv
2503.19683), and Yermakov et al., "Deepfake Detection that Generalizes Across Benchmarks" (arXiv 2508.06248): only the
LayerNorms of ViT-L/14 train (0.03 % of the parameters), the CLS token is L2-normalised, a linear head classifies it;
alignment and uniformity losses shape the sphere, and points between features of one class (slerp) augment it.

Differs from the papers: nothing in the network; our alignment averages over all pairs of one class in the batch.

Input 224 × 224 with ViT-L-14: 303.2 M parameters of which 104,450 train, 77.8 G multiply-adds per image.
"""

from __future__ import annotations

from training.detectors.base import DetectorCard
from training.detectors.clip_base import ClipSphereConfig, SphereDetector
from training.detectors.registry import register_detector


@register_detector(ClipSphereConfig)
class ClipLN(SphereDetector):
    """CLS → L2 → linear or ArcMargin."""

    card = DetectorCard(
        "CLIP, LayerNorm tuning", "spatial", "Deepfake Detection that Generalizes Across Benchmarks", 2025,
        "https://arxiv.org/abs/2508.06248", "outputs of GenD (CLIP ViT-L/14)",
    )  # fmt: skip
    head_names = {"model.linear.weight": "head.weight", "model.linear.bias": "head.bias"}
