"""Which device computes: what `--device` means, for every command."""

from __future__ import annotations

from typing import TYPE_CHECKING

from common.errors import ConfigError

if TYPE_CHECKING:
    import torch


def pick_device(wanted: str | None, local_rank: int = 0) -> torch.device:
    """Return the device that `--device` names; without it a GPU where there is one, else the CPU.

    Args:
        wanted: `cpu`, `cuda` (this process's GPU), `cuda:N`, or None.
        local_rank: number of this process on its machine.

    Raises:
        ConfigError: no such device, or not on this machine.
    """
    import torch

    kind, colon, number = (wanted or "").partition(":")
    if wanted is not None and (kind not in ("cpu", "cuda") or (colon and not (kind == "cuda" and number.isdigit()))):
        raise ConfigError(f"--device {wanted}: write cpu, cuda or cuda:N")
    if wanted == "cpu" or (wanted is None and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise ConfigError(f"--device {wanted}: no CUDA device answers here; use --device cpu")
    if number:
        local_rank = int(number)
    if local_rank >= torch.cuda.device_count():
        raise ConfigError(
            f"process {local_rank} of this machine has no GPU of its own ({torch.cuda.device_count()} there); start fewer"
        )
    return torch.device("cuda", local_rank)
