"""The config: its keys, reading it, deriving values and finding mistakes.

A config is read, its values are checked, derived values are filled in, contradictions are refused, and it is frozen:
by :func:`load_config` from a file, by :func:`config_from_text` from a checkpoint, and by :func:`ready_config` from a
config made in any other way.
"""

from .check import check_values, defaults_of_all, refuse_unresolved
from .checkpoint_info import CONFIG_KEY, INFO_KEY, config_in_checkpoint
from .imports import import_modules
from .key import Key, all_keys, get_key, nearest, set_key
from .keys import KEYS, add_key, add_retina_config, known_keys
from .load import config_from_text, dump_config, load_config, ready_config
from .resolve import resolve_config

__all__ = [
    "CONFIG_KEY",
    "INFO_KEY",
    "KEYS",
    "Key",
    "add_key",
    "add_retina_config",
    "all_keys",
    "check_values",
    "config_from_text",
    "config_in_checkpoint",
    "defaults_of_all",
    "dump_config",
    "get_key",
    "import_modules",
    "known_keys",
    "load_config",
    "nearest",
    "ready_config",
    "refuse_unresolved",
    "resolve_config",
    "set_key",
]
