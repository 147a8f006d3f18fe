"""One self-contained HTML file with pictures, plots and tables, readable without network."""

import base64
import html
import io
import os
from collections.abc import Sequence

import cv2
import matplotlib.pyplot as plt
import numpy as np

from retina_plugin.report.drawing import Colour
from retina_plugin.report.render import STYLE

HEAD = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">"""


class Page:
    """A page that is assembled part by part.

    Args:
        title: title of the page, plain text.
        subtitle: line below it, plain text.
    """

    def __init__(self, title: str, subtitle: str = "") -> None:
        self.title = title
        self._parts = [f"<h1>{html.escape(title)}</h1>"]
        if subtitle:
            self._parts.append(f'<p class="note">{html.escape(subtitle)}</p>')

    def heading(self, text: str) -> None:
        """Start a section."""
        self._parts.append(f"<h2>{html.escape(text)}</h2>")

    def text(self, text: str) -> None:
        """Add a paragraph of plain text."""
        self._parts.append(f"<p>{html.escape(text)}</p>")

    def legend(self, entries: Sequence[tuple[str, Colour]]) -> None:
        """Add coloured squares with texts; colours are BGR, as in pictures."""
        squares = "".join(
            f'<span><i style="background: rgb({int(r)}, {int(g)}, {int(b)})"></i>{html.escape(text)}</span>'
            for text, (b, g, r) in entries
        )
        self._parts.append(f'<p class="legend">{squares}</p>')

    def code(self, text: str) -> None:
        """Add preformatted text, such as YAML."""
        self._parts.append(f"<pre>{html.escape(text)}</pre>")

    def table(self, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Add a table; cells are converted with ``str``."""
        lines = [_table_row(header, "th"), *(_table_row(row, "td") for row in rows)]
        self._parts.append(f'<div class="table"><table>{"".join(lines)}</table></div>')

    def picture(self, image: np.ndarray, caption: str = "", *, quality: int = 85) -> None:
        """Add an image (H, W, 3) uint8, BGR, as JPEG."""
        self._embed(jpeg_uri(image, quality), caption)

    def plot(self, figure: plt.Figure, caption: str = "") -> None:
        """Add a figure of matplotlib as PNG, and close it."""
        stream = io.BytesIO()
        figure.savefig(stream, format="png", dpi=110)
        plt.close(figure)
        self._embed(_data_uri("image/png", stream.getvalue()), caption)

    def _embed(self, source: str, caption: str) -> None:
        """Add an image from a data URI."""
        below = f"<figcaption>{html.escape(caption)}</figcaption>" if caption else ""
        self._parts.append(f'<figure><img alt="{html.escape(caption or self.title)}" src="{source}">{below}</figure>')

    def write(self, file: str | os.PathLike) -> None:
        """Write the page atomically: a reader sees the old or the new version."""
        body = "\n".join(self._parts)
        head = f"{HEAD}<title>{html.escape(self.title)}</title><style>{STYLE}</style></head>"
        text = f"{head}\n<body>\n{body}\n</body></html>\n"
        write_page(text, file)


def write_page(text: str, file: str | os.PathLike) -> None:
    """Write a page atomically: a reader sees the old or the new version."""
    unfinished = f"{os.fspath(file)}.unfinished"
    # File names on the page need not be valid UTF-8.
    with open(unfinished, "w", encoding="utf-8", errors="backslashreplace") as stream:
        stream.write(text)
    os.replace(unfinished, file)


def jpeg_uri(image: np.ndarray, quality: int = 85) -> str:
    """Return an image (H, W, 3) uint8, BGR, as a data URI with a JPEG."""
    data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()
    return _data_uri("image/jpeg", data)


def _data_uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def _table_row(cells: Sequence[object], tag: str) -> str:
    """Return a row of a table, its cells escaped, in elements of the given tag."""
    inside = "".join(f"<{tag}>{html.escape(str(cell))}</{tag}>" for cell in cells)
    return f"<tr>{inside}</tr>"
