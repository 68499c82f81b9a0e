"""The typed configuration: `load_config(path, overrides=["optimizer.adam.lr=1e-4"]) -> Config`."""

from training.config.loader import CONFIG_DIR, config_text, load_config, save_config
from training.config.schema import BOOKKEEPING, Config

__all__ = ["BOOKKEEPING", "CONFIG_DIR", "Config", "config_text", "load_config", "save_config"]
