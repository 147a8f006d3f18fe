"""The keys as text for people: docs/keys.md, and ``retina keys``."""

import textwrap

from retina_plugin.config import detectron2_keys, keys
from retina_plugin.config.detectron2_keys import MEANT, untouched
from retina_plugin.config.key import Key, get_key
from retina_plugin.config.values import Slot

COMMAND = "retina keys --write docs/keys.md"

INTRODUCTION = f"""# Config keys

Made by `{COMMAND}` from the records in [keys.py](../retina_plugin/config/keys.py) and [detectron2_keys.py](../retina_plugin/config/detectron2_keys.py); `retina keys WORD`
prints those whose name or meaning has the word. Every value is checked at start-up. Names of variants are those that the plugin and Detectron2 register; a script may register more.
"""


def default_of(key: Key) -> object:
    """What a key is without a config file."""
    return key.default if key.is_ours else get_key(untouched(), key.name)


def allowed(key: Key) -> str:
    """The allowed values in words, with the unit."""
    words = key.rule.says()
    if isinstance(key.rule, Slot) and key.rule.registry:
        words = f"a name in Detectron2's {key.rule.registry}"
    return words + (f" [{key.unit}]" if key.unit else "")


def keys_page() -> str:
    """docs/keys.md: all keys that the plugin reads, in tables."""
    parts = [INTRODUCTION]
    own = [key for name, key in keys.known_keys().items() if name not in keys.KEYS]
    for title, groups in (
        ("The plugin's", keys.GROUPS),
        *([("Of imported modules", {"": own})] if own else []),
        ("Detectron2's, as the plugin reads them", detectron2_keys.GROUPS),
    ):
        parts.append(f"## {title}\n")
        for heading, records in groups.items():
            parts += [f"### {heading}\n"] if heading else []
            parts.append(
                "\n".join(["| key | default | allowed | meaning |", "|---|---|---|---|", *map(_row, records), ""])
            )
    parts.append("## Keys of other detectors\n\nRefused when they are set, with the key that is meant:\n")
    parts.append("\n".join(f"- `{key}`: {meant}" for key, meant in MEANT.items()) + "\n")
    return "\n".join(parts)


def _row(key: Key) -> str:
    cells = (f"`{key.name}`", f"`{default_of(key)!r}`", allowed(key), key.meaning)
    return "| " + " | ".join(cell.replace("|", "\\|").replace("**", "\\*\\*") for cell in cells) + " |"


def keys_help(word: str = "") -> str:
    """The keys whose name or meaning has a word in it, for a terminal; "" if there is none."""
    records = [*keys.known_keys().values(), *detectron2_keys.DETECTRON2_KEYS.values()]
    found = [key for key in records if word.casefold() in f"{key.name} {key.meaning}".casefold()]
    entries = []
    for key in found:
        lines = [
            f"{key.name} = {default_of(key)!r}",
            *textwrap.wrap(key.meaning, 100),
            *textwrap.wrap(f"allowed: {allowed(key)}", 100),
        ]
        entries.append("\n    ".join(lines))
    return "\n".join(entries)
