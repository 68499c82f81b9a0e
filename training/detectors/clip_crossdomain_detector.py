"""The project's own detector: CLIP with Freq-Adapter, Boundary Mining and identity-invariant learning.

On top of LayerNorm-tuned CLIP on the hypersphere (`clip_ln`; arXiv 2503.19683, 2508.06248) stand three parts:

- Freq-Adapter (`modules/freq_adapter.py`): FFT and DWT branches side by side give frequency tokens, which join the tower as
  zero-initialised gated residuals and are pooled for the fusion.
- Boundary Mining (`modules/boundary_mining.py`): high-pass residuals and edges make W in [0, 1], which weights the pooling of
  patch tokens and of frequency tokens. W learns from the pooling or, where `losses.boundary` has a weight, from forgery masks
  alone: classification would bend it to the face's own outline, which serves pooling but finds no seam.
- Identity-invariant learning (`modules/identity.py`): a discriminator of identities behind a gradient reversal layer, on the
  features or on CLS alone; optionally one of training domains.

CLS, W-pooled patches and W-pooled frequency are fused, L2-normalised and classified. Each part can be switched off alone;
with all of them off this is `clip_ln`, with the same names and numbers.

Input 224 × 224 with ViT-L-14: about 308 M parameters of which about 5 M train.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from training.batch import Batch, DataInfo
from training.config.schema import Config, NonNegative, Section
from training.detectors.base import Clock, DetectorCard, Losses, Prediction
from training.detectors.clip_base import ClipSphereConfig, SphereDetector, SphereLosses
from training.detectors.parts.clip_crossdomain.boundary_loss import boundary_counts, boundary_loss, boundary_target
from training.detectors.parts.clip_crossdomain.degrade import degraded_view
from training.detectors.parts.clip_crossdomain.frequency_consistency_loss import frequency_consistency
from training.detectors.registry import register_detector
from training.loss.masked import known_cross_entropy
from training.modules.boundary_mining import BoundaryConfig, BoundaryMining, weighted_pool
from training.modules.freq_adapter import FreqAdapter, FreqAdapterConfig
from training.modules.identity import (
    FORGOTTEN,
    AdversaryConfig,
    Discriminator,
    DomainConfig,
    IdentityConfig,
    reversal_strength,
)


class CrossDomainLosses(SphereLosses):
    """Adds the losses of the three parts (the identity's and the domain's weights stand in their own sections)."""

    consistency: NonNegative = Field(0.1, description="frequency consistency with a degraded view; needs freq_adapter")
    boundary: NonNegative = Field(
        0.0, description="W against the forgery mask's boundary; needs boundary and with_mask"
    )


class FusionConfig(Section):
    """What takes part in the fused feature beside CLS (each only where its part is switched on)."""

    patches: bool = True
    frequency: bool = True


class CrossDomainConfig(ClipSphereConfig):
    """Keys of the detector; every part has a section with `enabled`."""

    freq_adapter: FreqAdapterConfig = Field(default_factory=FreqAdapterConfig)
    boundary: BoundaryConfig = Field(default_factory=BoundaryConfig)
    identity: IdentityConfig = Field(default_factory=IdentityConfig)
    domain: DomainConfig = Field(default_factory=DomainConfig)
    fusion: FusionConfig = Field(default_factory=FusionConfig)
    losses: CrossDomainLosses = Field(default_factory=CrossDomainLosses)

    @model_validator(mode="after")
    def _boundary_loss_needs_masks(self) -> CrossDomainConfig:
        if self.boundary.enabled and self.losses.boundary and not self.with_mask:
            raise ValueError("losses.boundary compares W with forgery masks: set with_mask to true, or the weight to 0")
        return self


@register_detector(CrossDomainConfig)
class ClipCrossDomain(SphereDetector):
    """Reads like the method: `embed` is the forward pass, `get_losses` the objective."""

    config: CrossDomainConfig
    card = DetectorCard(
        "CLIPDeepfake (ours)", "frequency", "This project: Freq-Adapter, Boundary Mining, identity-invariant learning", 2026,
        "",
    )  # fmt: skip
    training_only = (r"^identity\.", r"^domain\.")
    unused_keys = training_only  # where the training identities are not at hand, prediction needs none of it
    head_names = {"model.linear.weight": "head.weight", "model.linear.bias": "head.bias"}

    def __init__(self, config: CrossDomainConfig, data_info: DataInfo | None = None, pretrained: bool = True):
        super().__init__(config, data_info, pretrained)
        width, info = self.tower.width, data_info or DataInfo()
        self.freq = FreqAdapter(config.freq_adapter, width, self.tower.depth) if config.freq_adapter.enabled else None
        self.boundary = BoundaryMining(config.boundary) if config.boundary.enabled else None
        parts = 1 + self.pools_patches + self.pools_frequency
        self.fusion = nn.Linear(parts * width, width) if parts > 1 else nn.Identity()
        self.identity = self.domain = None
        if config.identity.enabled and config.identity.weight and len(info.identities) > 1:
            self.identity = Discriminator(width, len(info.identities), config.identity.hidden)
        if config.domain.enabled and config.domain.weight and len(info.domains) > 1:
            self.domain = Discriminator(width, len(info.domains), config.domain.hidden)
        self._freeze_unreached()

    def _freeze_unreached(self) -> None:
        """Freeze a part that is computed to be looked at, but that no loss of this configuration reaches."""
        embedded = self.pools_frequency or (self.freq is not None and self.config.losses.consistency > 0)
        if self.freq is not None and not (embedded or self.freq.blocks):
            self.freq.requires_grad_(False)
        mined = self.pools_patches or embedded or self.config.losses.boundary > 0
        if self.boundary is not None and not mined:
            self.boundary.requires_grad_(False)

    @property
    def pools_patches(self) -> bool:
        """Whether W-pooled patch tokens take part in the fusion."""
        return self.boundary is not None and self.config.fusion.patches

    @property
    def pools_frequency(self) -> bool:
        """Whether pooled frequency tokens take part in the fusion."""
        return self.freq is not None and self.config.fusion.frequency

    def pixels(self, batch: Batch) -> Tensor:
        """Return the de-normalised images in [0, 1]."""
        return ((batch["image"].float() * self.std + self.mean) / 255).clamp(0, 1)

    def embed(self, batch: Batch, inference: bool) -> dict[str, Any]:
        pixels, grid = self.pixels(batch), self.tower.grid(batch["image"])
        out: dict[str, Any] = {}
        weights = tokens = residuals = None
        if self.boundary is not None:
            out["boundary"] = self.boundary(pixels, grid)  # (B, 1, h, w)
            weights = self._steering(out)
        if self.freq is not None:
            tokens, energies = self.freq(pixels, grid)  # (B, N, D)
            residuals = self.freq.residuals(tokens)
            out |= energies
        cls, patches = self.tower(batch["image"], residuals)
        parts = [cls]
        if self.pools_patches:
            parts.append(weighted_pool(patches, weights))
        if tokens is not None:
            out["freq"] = weighted_pool(tokens, weights)  # (B, D)
            if self.pools_frequency:
                parts.append(out["freq"])
        out["token"] = cls
        out["feat"] = self.fusion(torch.cat(parts, dim=1)) if len(parts) > 1 else cls
        return out

    def before_step(self, clock: Clock) -> None:
        if self.identity is not None:
            self.identity.strength = reversal_strength(clock.progress, self.config.identity.top)
        if self.domain is not None:
            self.domain.strength = reversal_strength(clock.progress)

    def counts(self, batch: Batch) -> dict[str, Tensor]:
        counts = {}
        if self.identity is not None:
            counts["identity"] = (self._person(batch) >= 0).sum()
        if self.domain is not None:
            counts["domain"] = (batch["domain"] >= 0).sum()
        if self.boundary is not None and self.config.losses.boundary:
            band, known = boundary_target(batch["mask"], batch["label"], self.tower.grid(batch["image"]))
            counts["boundary_on"], counts["boundary_off"] = boundary_counts(band, known)
        return counts

    def param_groups(self, config: Config) -> Iterable[dict[str, Any]]:
        most = FORGOTTEN / getattr(config.optimizer, config.optimizer.type).lr
        own = []
        if self.identity is not None:
            own.append((self.identity, min(self.config.identity.weight_decay, most)))
        if self.domain is not None:
            own.append((self.domain, min(self.config.domain.weight_decay, most)))
        # As L2 under Adam so large a decay would be all that a discriminator follows.
        groups = [
            {"params": list(head.parameters()), "weight_decay": decay, "decoupled_weight_decay": True}
            for head, decay in own
        ]
        apart = {id(parameter) for head, _ in own for parameter in head.parameters()}
        rest = [parameter for parameter in self.parameters() if parameter.requires_grad and id(parameter) not in apart]
        return [{"params": rest}, *groups]

    @staticmethod
    def _read(keys: AdversaryConfig, prediction: Prediction) -> Tensor:
        return prediction["l2" if keys.reads == "features" else "token"]

    def _person(self, batch: Batch) -> Tensor:
        return batch[f"{self.config.identity.which}_id"]

    def loss_weights(self) -> dict[str, float]:
        losses = self.config.losses
        own = {"consistency": losses.consistency, "boundary": losses.boundary}
        adversaries = {"identity": self.config.identity.weight, "domain": self.config.domain.weight}
        return {**super().loss_weights(), **own, **adversaries}

    def get_losses(self, batch: Batch, prediction: Prediction) -> Losses:
        losses = super().get_losses(batch, prediction)
        weights, counts = self.config.losses, batch.get("counts", {})
        del losses["overall"]
        if self.freq is not None and weights.consistency:
            losses["consistency"] = self._consistency(batch, prediction)
        if self.boundary is not None and weights.boundary:
            band, known = boundary_target(batch["mask"], batch["label"], self.tower.grid(batch["image"]))
            on, off = counts.get("boundary_on"), counts.get("boundary_off")
            losses["boundary"] = boundary_loss(prediction["boundary"], band, known, on, off)
        if self.identity is not None:
            logits = self.identity(self._read(self.config.identity, prediction))
            losses["identity"] = known_cross_entropy(logits, self._person(batch), counts.get("identity"))
        if self.domain is not None:
            logits = self.domain(self._read(self.config.domain, prediction))
            losses["domain"] = known_cross_entropy(logits, batch["domain"], counts.get("domain"))
        return self.summed(losses)

    def _consistency(self, batch: Batch, prediction: Prediction) -> Tensor:
        """Return 1 − cosine between the frequency embeddings of the images and of degraded views; the tower runs once."""
        assert self.freq is not None
        view = degraded_view(self.pixels(batch))
        tokens, _ = self.freq(view, self.tower.grid(view))
        return frequency_consistency(prediction["freq"], weighted_pool(tokens, self._steering(prediction)))

    def _steering(self, prediction: Prediction) -> Tensor | None:
        """Return W as the pooling sees it: without gradient where masks teach it."""
        w = prediction.get("boundary")
        return w.detach() if w is not None and self.config.losses.boundary else w
