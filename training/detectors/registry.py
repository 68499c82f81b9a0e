"""Which detectors there are, found by convention: `<name>_detector.py` holds the detector `<name>`.

Listing does not import torch, and importing one detector never imports another.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from common.by_name import Folder
from common.errors import ConfigError
from training.config.schema import Config

if TYPE_CHECKING:
    from training.batch import DataInfo
    from training.detectors.base import Detector

D = TypeVar("D", bound="type[Detector]")
_DETECTORS = Folder("training.detectors", "detector", "_detector")


def available_detectors() -> tuple[str, ...]:
    """Return the names of all detectors, sorted."""
    return _DETECTORS.names


def register_detector(config: type[Config] = Config) -> Callable[[D], D]:
    """Mark the class that a detector file is about, with the class of its configuration."""

    def mark(cls: D) -> D:
        cls.Config = config
        cls.name = cls.__module__.rpartition(".")[2].removesuffix(_DETECTORS.suffix)
        return cls

    return mark


def detector_class(name: str) -> "type[Detector]":
    """Return the registered class of the detector `name`; ConfigError with the nearest when there is none."""
    module = _DETECTORS.module(name)
    found = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and value.__module__ == module.__name__ and vars(value).get("name") == name
    ]
    if len(found) != 1:
        raise ConfigError(
            f"{module.__file__} must hold exactly one class under @register_detector, it holds {len(found)}"
        )
    return found[0]


def config_class(name: str) -> type[Config]:
    """Return the configuration class that the detector `name` declares."""
    return detector_class(name).Config


def build_detector(config: Config, data_info: "DataInfo | None" = None, pretrained: bool = True) -> "Detector":
    """Build the detector that `config.model_name` names.

    Args:
        config: from `load_config`.
        data_info: identities, manipulations and counts of the training index; sizes the heads that need them.
        pretrained: load the trunk's weights that `config.pretrained` names; False when a whole checkpoint follows.

    Raises:
        ConfigError: unknown detector. WeightsError: the pretrained weights are not there or do not fit.
    """
    return detector_class(config.model_name)(config, data_info=data_info, pretrained=pretrained)
