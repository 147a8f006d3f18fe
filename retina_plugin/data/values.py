"""Converts values from third-party files to numbers, sizes, flags, ids and names, whatever their type."""

import math
import re
import unicodedata

MOST_PIXELS = 1_000_000
"""Longest side of an image that is accepted as plausible."""

NO = {"", "0", "0.0", "false", "f", "no", "n", "off", "none", "null", "unspecified"}
"""Texts that mean no, in lower case."""

_WHOLE = re.compile(r"-?(0|[1-9]\d{0,17})")


def as_number(value: object) -> float | None:
    """Convert a number or its text to a float; None for everything else. NaN and infinities are kept.

    Example:
        >>> as_number("12.5 "), as_number(10**400), as_number(True), as_number("1_0"), as_number([1])
        (12.5, inf, None, None, None)
    """
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    if isinstance(value, str) and ("_" in value or len(value) > 400):
        return None
    try:
        return float(value)
    except OverflowError:  # an int of more than 308 digits
        assert not isinstance(value, str)
        return math.inf if value > 0 else -math.inf
    except ValueError:
        return None


def as_size(value: object) -> int | None:
    """Convert a value to the side of an image in pixels; None if it is not usable (null, 0, -1, other text).

    Example:
        >>> as_size("48"), as_size(48.0), as_size(-1), as_size(None), as_size(0.5)
        (48, 48, None, None, None)
    """
    number = as_number(value)
    if number is None or not math.isfinite(number) or number != int(number) or not 1 <= number <= MOST_PIXELS:
        return None
    return int(number)


def as_flag(value: object) -> bool:
    """Return whether a value, possibly text, means yes.

    Example:
        >>> as_flag("0"), as_flag("False"), as_flag(1), as_flag("true"), as_flag(None), as_flag([])
        (False, False, True, True, False, False)
    """
    if isinstance(value, str):
        return value.strip().lower() not in NO
    return isinstance(value, (bool, int, float)) and bool(value) and value == value


def as_id(value: object) -> int | str | None:
    """Convert a value to an id that can be looked up; None if it is not an id.

    Whole numbers become ints however they are written; other text is kept.

    Example:
        >>> as_id(7), as_id("7"), as_id(7.0), as_id("007"), as_id(" a "), as_id([7]), as_id(True)
        (7, 7, 7, '007', 'a', None, None)
    """
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        return int(value) if value.is_integer() and abs(value) < 2**53 else repr(value)
    if isinstance(value, str):
        text = value.strip()
        return int(text) if _WHOLE.fullmatch(text) else text or None
    return None


def as_name(value: object) -> str | None:
    r"""Convert text or a number to the name of a class, stripped, composed (NFC), on one line; None if not.

    Example:
        >>> as_name(" cat\n"), as_name(7), as_name(7.0), as_name(["a"]), as_name("")
        ('cat', '7', '7', None, None)
    """
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        value = int(value)
    if isinstance(value, int) and abs(value) >= 10**400:  # more digits than Python converts to text
        return None
    if not isinstance(value, (str, int, float)):
        return None
    name = unicodedata.normalize("NFC", " ".join(str(value).split()))
    return name.encode("utf-8", "replace").decode("utf-8") or None


def spelled_alike(names: list[str]) -> list[list[str]]:
    """Group the names that differ only in case, spaces, hyphens or underscores.

    Example:
        >>> spelled_alike(["cat", "Cat", "dog", "traffic light", "traffic_light"])
        [['cat', 'Cat'], ['traffic light', 'traffic_light']]
    """
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(re.sub(r"[\s_-]+", "", unicodedata.normalize("NFKC", name).casefold()), []).append(name)
    return [group for group in groups.values() if len(group) > 1]
