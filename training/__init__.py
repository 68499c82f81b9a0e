"""Everything that learns: configuration, detectors, data, losses, training and evaluation."""

from typing import Any

__all__ = ["Predictor"]


def __getattr__(name: str) -> Any:
    # `import training` must stay free: the predictor pulls in torch only when somebody asks for it.
    if name == "Predictor":
        from prediction.predictor import Predictor

        return Predictor
    raise AttributeError(f"module 'training' has no attribute {name!r}")
