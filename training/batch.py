"""What a detector needs to know about its training data to have heads of the right size."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class DataInfo:
    """Names behind the integer labels of batches; kept in the run's configuration and checkpoint.

    Attributes:
        identities: class index of each known identity, `<family>:<id>`, 0 … n−1.
        manipulations: index of each label name; every real label is 0, manipulations count from 1.
        domains: index of each training dataset.
        counts: `real` and `fake` samples, `videos_real` and `videos_fake`.
    """

    identities: dict[str, int] = field(default_factory=dict)
    manipulations: dict[str, int] = field(default_factory=dict)
    domains: dict[str, int] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    @property
    def num_manipulations(self) -> int:
        """How many kinds of fakes there are."""
        return max(self.manipulations.values(), default=0)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {key: dict(getattr(self, key)) for key in ("identities", "manipulations", "domains", "counts")}

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> DataInfo:
        """Take back what `to_dict` returned."""
        return cls(**{key: dict(value.get(key, {})) for key in ("identities", "manipulations", "domains", "counts")})
