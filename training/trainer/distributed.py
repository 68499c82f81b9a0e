"""Which process this is among how many, and the few collective operations that training and evaluation need."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from common.device import pick_device
from common.errors import ConfigError

T = TypeVar("T")
# Rank 0 computes intervals and writes files while the others wait; that must not look like a hang.
_TIMEOUT = timedelta(hours=4)


@dataclass(frozen=True)
class Process:
    """One process of a run.

    Attributes:
        rank: its number among all, from 0.
        world_size: how many there are.
        device: where its tensors live.
    """

    rank: int
    world_size: int
    device: torch.device

    @property
    def main(self) -> bool:
        """Whether this process writes files and talks to the user."""
        return self.rank == 0

    @property
    def distributed(self) -> bool:
        """Whether there are others."""
        return self.world_size > 1

    def barrier(self) -> None:
        """Wait for all."""
        if self.distributed:
            dist.barrier()

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """Return the sum over all processes, on each of them."""
        if self.distributed:
            values = values.clone()
            dist.all_reduce(values)
        return values

    def gather(self, value: T) -> list[T] | None:
        """Return every process's value on rank 0, in order of rank, and None elsewhere."""
        if not self.distributed:
            return [value]
        gathered: list[Any] | None = [None] * self.world_size if self.main else None
        dist.gather_object(value, gathered)
        return gathered

    def gather_everywhere(self, value: T) -> list[T]:
        """Return every process's value on each of them, in order of rank."""
        if not self.distributed:
            return [value]
        gathered: list[Any] = [None] * self.world_size
        dist.all_gather_object(gathered, value)
        return gathered

    def share_buffers(self, module: torch.nn.Module) -> None:
        """Give every process rank 0's buffers (BatchNorm statistics), which each has moved on its own share of a batch."""
        if self.distributed:
            for buffer in module.buffers():
                shared = buffer.detach().clone(memory_format=torch.contiguous_format)
                dist.broadcast(shared, 0)
                buffer.copy_(shared)

    def broadcast(self, value: T) -> T:
        """Return rank 0's value everywhere."""
        if not self.distributed:
            return value
        box: list[Any] = [value]
        dist.broadcast_object_list(box)
        return box[0]


def start(device: str | None = None, ddp: bool = False) -> Process:
    """Join the run that torchrun started, or stand alone.

    Args:
        device: `cpu`, `cuda`, `cuda:N` or None to choose.
        ddp: the user said `--ddp`; without torchrun's variables that is an error with the command to use.
    """
    if "RANK" not in os.environ:
        if ddp:
            raise ConfigError(
                "--ddp: start it with torchrun (`bash train.sh --detector_path ...` does), which names the ranks"
            )
        return Process(0, 1, pick_device(device))
    rank, world_size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    chosen = pick_device(device, int(os.environ.get("LOCAL_RANK", 0)))
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    if world_size > 1 and not dist.is_initialized():
        dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo", timeout=_TIMEOUT)
    return Process(rank, world_size, chosen)


def stop() -> None:
    """Leave the run in order."""
    if dist.is_initialized():
        dist.destroy_process_group()


def flatten(parts: Sequence[Sequence[T]]) -> list[T]:
    """Return the parts one behind the other."""
    return [item for part in parts for item in part]
