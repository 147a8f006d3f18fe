"""What a checkpoint of the plugin says of itself, as far as configs need it."""

import os
import pickle

import torch

from retina_plugin.text import parse_yaml

INFO_KEY = "retina_plugin"
"""Where a checkpoint of the plugin says what it is."""

CONFIG_KEY = "config"
"""In what it says: the whole config, as YAML."""


def config_in_checkpoint(file: str) -> dict | None:
    """The config that a checkpoint of the plugin carries; None for any other file, and for none. Tensors are not read."""
    if not os.path.isfile(file):
        return None
    try:
        info = torch.load(file, map_location="cpu", weights_only=True, mmap=True).get(INFO_KEY)
    except (
        RuntimeError,
        ValueError,
        AttributeError,
        pickle.UnpicklingError,
        EOFError,
        OSError,
    ):  # no zip of tensors by name: not ours
        return None
    return info and parse_yaml(info[CONFIG_KEY], source=f"the config in {file}")
