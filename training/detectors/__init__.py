"""The detectors: one file each, found by name. `build_detector(config)` makes one; `available_detectors()` lists them."""

from training.detectors.registry import available_detectors, build_detector, register_detector

__all__ = ["available_detectors", "build_detector", "register_detector"]
