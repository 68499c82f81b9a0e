"""What the phase of an image's spectrum draws alone (Liu et al., "Spatial-Phase Shallow Learning", CVPR 2021, section 3)."""

import torch
from torch import Tensor

from training.ops.full_precision import full_precision


@full_precision
def phase_image(image: Tensor) -> Tensor:
    """Return the grey image whose spectrum has the phase of the input's and amplitude 1 everywhere.

    Such an image shows edges and the traces of up-sampling, which repeat the spectrum; its mean square is 1 / (H · W). A
    frequency that the image lacks has phase 0.

    Args:
        image: `(B, C, H, W)`; its channels are averaged. A positive factor changes nothing.

    Returns:
        `(B, 1, H, W)` float32.
    """
    grey = image.float().mean(dim=1, keepdim=True)
    phase = torch.fft.fft2(grey).angle()
    return torch.fft.ifft2(torch.polar(torch.ones_like(phase), phase)).real
