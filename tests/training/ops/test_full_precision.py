"""Residuals, transforms and sphere losses keep float32 inside mixed precision."""

import pytest
import torch

from training.detectors.parts.clip_crossdomain.degrade import blur, quantise_blocks
from training.loss.arcmargin import ArcMargin
from training.loss.hypersphere import alignment, uniformity
from training.loss.slerp import slerp
from training.modules.boundary_mining import BoundaryConfig, BoundaryMining
from training.modules.freq_adapter import SoftHighPass
from training.ops.full_precision import full_precision
from training.ops.wavelet import Wavelet2d


def images():
    return torch.rand(2, 3, 24, 25, generator=torch.Generator().manual_seed(0))


def sphere():
    points = torch.randn(6, 8, generator=torch.Generator().manual_seed(1))
    return points / points.norm(dim=1, keepdim=True)


LABEL = torch.tensor([0, 1, 0, 1, 1, 0])
CASES = {
    "wavelet": lambda: Wavelet2d("db2")(images(), 2)[0],
    "high-pass": lambda: SoftHighPass()(images()),
    "evidence": lambda: BoundaryMining(BoundaryConfig()).evidence(images()),
    "blur": lambda: blur(images(), 1.0),
    "quantise": lambda: quantise_blocks(images(), torch.tensor([50.0, 80.0])),
    "alignment": lambda: alignment(sphere(), LABEL),
    "uniformity": lambda: uniformity(sphere()),
    "slerp": lambda: slerp(sphere(), sphere().flip(0), torch.full((6,), 0.3)),
    "arcmargin": lambda: ArcMargin(8)(sphere(), LABEL),
}


@pytest.mark.parametrize("name", CASES)
def test_mixed_precision_changes_nothing(name):
    torch.manual_seed(0)
    wanted = CASES[name]()
    torch.manual_seed(0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = CASES[name]()
    assert got.dtype == torch.float32
    assert torch.equal(got, wanted)


def test_the_guard_is_what_does_it():
    def product(x):
        return x @ x.T

    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert product(sphere()).dtype == torch.bfloat16
        assert full_precision(product)(sphere()).dtype == torch.float32
