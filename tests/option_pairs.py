"""Config options as a dict, which reads better than a long list."""

from collections.abc import Mapping


def pairs(options: Mapping[str, object]) -> list:
    """Return the keys and values of a dict as KEY, VALUE, KEY, VALUE, ..."""
    return [word for pair in options.items() for word in pair]
