"""The config that a checkpoint of the plugin contains."""

import json
import os
import pickle

import torch
from safetensors import SafetensorError, safe_open

from retina_plugin.text import parse_yaml

INFO_KEY = "retina_plugin"
"""Key of the description that the plugin adds to its checkpoints."""

CONFIG_KEY = "config"
"""Key in that description: the whole config, as YAML."""

SAFETENSORS = ".safetensors"
"""Suffix of checkpoints in that format."""

NOT_A_CHECKPOINT = (
    RuntimeError,
    ValueError,
    AttributeError,
    pickle.UnpicklingError,
    EOFError,
    OSError,
    SafetensorError,
)
"""What torch.load and the access to its result raise for a file that is not a zip of named tensors."""


def config_in_checkpoint(file: str) -> dict | None:
    """Return the config in a checkpoint of the plugin, or None for any other file or a path that is not a file.

    Tensors are not read.

    Raises:
        ValueError: If the checkpoint has a config that is not valid YAML, or not a mapping.
    """
    if not os.path.isfile(file):
        return None
    try:
        if file.endswith(SAFETENSORS):
            with safe_open(file, framework="pt") as stream:
                info = json.loads((stream.metadata() or {}).get(INFO_KEY, "null"))
        else:
            info = torch.load(file, map_location="cpu", weights_only=True, mmap=True).get(INFO_KEY)
    except NOT_A_CHECKPOINT:
        return None
    if not info:
        return None
    config = parse_yaml(info[CONFIG_KEY], source=f"the config in {file}")
    if config is not None and not isinstance(config, dict):
        raise ValueError(f"the config in {file} holds a {type(config).__name__}; a mapping is expected")
    return config
