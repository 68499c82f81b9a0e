"""The typed configuration: `load_config(path, overrides=["optimizer.adam.lr=1e-4"]) -> Config`."""

from training.config.loader import CONFIG_DIR, load_config, save_config
from training.config.schema import Config

__all__ = ["CONFIG_DIR", "Config", "load_config", "save_config"]
