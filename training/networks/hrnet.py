"""HRNetV2 (Wang et al., "Deep High-Resolution Representation Learning", TPAMI 2020) as a dense feature extractor, from timm.

The branches of the last stage, at strides 4, 8, 16 and 32, are brought to the finest of them and stacked. The classification
head of published ImageNet weights has no part in it. Parameter names are timm's, which are the original's.
"""

from typing import Any, cast

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from common.errors import ConfigError
from training.networks.pretrained import load_pretrained

# The parts of published HRNet classifiers that only their ImageNet head uses.
HEAD_KEYS = r"^(?:backbone\.)?(?:incre_modules|downsamp_modules|final_layer|fc|classifier)\."


def build_hrnet(name: str = "hrnet_w48", weights: str | None = None) -> nn.Module:
    """Return timm's HRNet of that name (`hrnet_w18_small` … `hrnet_w64`) without its head.

    It maps images `(B, 3, H, W)` to a list of four maps; hand them to `stack_branches`.

    Raises:
        ConfigError: timm has no such HRNet. WeightsError: `weights`, a tag or a file, cannot be had.
    """
    known = timm.list_models("hrnet_*")
    if name not in known:
        raise ConfigError(f"backbone_name: there is no HRNet `{name}`; timm's are: {', '.join(known)}")
    net = timm.create_model(name, pretrained=False, features_only=True, feature_location="", out_indices=(1, 2, 3, 4))
    load_pretrained(net, weights, name, ignore=(HEAD_KEYS,))
    return net


def stacked_channels(network: nn.Module) -> int:
    """Return the channels of the stacked map (720 for W48)."""
    # timm's own feature information tells the widths behind the head that is not there.
    return sum(cast(dict[str, Any], network.stage4_cfg)["num_channels"])


def stack_branches(maps: list[Tensor]) -> Tensor:
    """Return the branches' maps as one `(B, channels, H/4, W/4)`, the coarser ones interpolated."""
    finest, *coarser = maps
    size = finest.shape[-2:]
    raised = [F.interpolate(x, size=size, mode="bilinear", align_corners=False) for x in coarser]
    return torch.cat([finest, *raised], dim=1)
