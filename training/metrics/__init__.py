"""Figures of merit of a detector: frame and video level, confidence intervals, significance, checkpoint selection."""

from training.metrics.evaluate import evaluate
from training.metrics.significance import delong, paired_bootstrap

__all__ = ["delong", "evaluate", "paired_bootstrap"]
