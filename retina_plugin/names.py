"""Names from third-party files, such as class names, as plain text: in Markdown, in pictures and on the terminal."""

import re

CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""Characters that move the cursor, set colours, ring the bell, break lines or change the direction of writing."""


def one_line(text: object) -> str:
    r"""Escape every character that a terminal would act on.

    Example:
        >>> one_line("cat" + chr(27) + "[31m" + chr(10) + "dog")
        'cat\\x1b[31m\\ndog'
    """
    return CONTROLS.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), str(text))


def markdown_cell(text: object) -> str:
    r"""Escape a text so that a cell of a Markdown table shows it verbatim.

    Example:
        >>> markdown_cell("a|b*c")
        'a\\|b\\*c'
    """
    return re.sub(r"([\\`*_\[\]<>|~$])", r"\\\1", one_line(text))


def plain_label(text: object) -> str:
    r"""Escape a text so that matplotlib shows it verbatim; it reads text between two dollars as a formula.

    Example:
        >>> plain_label("US$ and A$")
        'US\\$ and A\\$'
    """
    return one_line(text).replace("$", r"\$")
