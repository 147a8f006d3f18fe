"""Changes of tokens, bytes and names that the fuzzer applies to valid files; drawn by hypothesis."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from hypothesis import strategies as st

TOKEN = re.compile(rb"[A-Za-z0-9_.+\-]+|[^A-Za-z0-9_.+\-\s]")
"""A word, a number, or one punctuation mark."""

ODD = [
    b"", b"null", b"None", b"true", b"-1", b"0", b"1", b"2", b"-0.0", b"0.5", b"1e400", b"-1e400", b"NaN", b"nan",
    b"Infinity", b"inf", b"1" + b"0" * 400, b"9007199254740993", b"18446744073709551616", b"-9223372036854775809",
    b"1_000", b"0x10", b"1,5", b'"1"', b'"12.5"', b'"false"', b'""', b"[]", b"{}", b"[[]]", b'[{"a": [1]}]',
    b"[" * 60 + b"]" * 60, b"\\", b"/", b"..", b"../..", b"/etc/passwd", b"C:\\\\a\\\\b.jpg", b"a.jpg", b"A.JPG",
    b"nowhere.png", b"images", b"train", b"cat", b"Cat", b"dog ", b"\xef\xbb\xbf", b"\xff\xfe", b"\xe9", b"\xc3\xa9",
    b"e\xcc\x81", b"\xed\xa0\x80", b"\0", b"\x1b[31m", b"\r\n", b"\n", b"\t", b";", b",", b":", b"#", b"&", b"*",
    b"&a", b"*a", b"!!python/object:os.system", b"<", b">", b"&amp;", b"&x;", b"<!DOCTYPE a [<!ENTITY x 'y'>]>", b"$",
    b"|", b"x" * 5000,
]  # fmt: skip
"""Values that replace others."""

NAMES = [
    *("a.JPG", "a .jpg", "A.jpg", "a[1].jpg", "é.png", "e\u0301.png", "a.jpeg", "x.txt", "a.xml"),
    *("train.json", "val.json", "val/a.jpg", "train/labels/a.txt", "Thumbs.db", ".hidden.json", "a.json"),
    *("data.yaml", "classes.txt", "deep/er/b c.png", "$x|y.png"),
]
"""New names of files."""

BYTE_KINDS = ["token", "tokens", "drop", "repeat", "swap", "insert", "flip", "cut", "number", "encoding"]
"""Kinds of changes of the bytes of a file."""

KINDS = [*BYTE_KINDS, "rename", "copy", "empty", "gone", "special", "other"]
"""Kinds of changes, also of names and of whole files."""

SPECIAL = ["fifo", "folder", "loop", "dangling", "unreadable"]
"""What may take the place of a file."""


@dataclass(frozen=True)
class Change:
    """A change of a file.

    Args:
        kind: one of ``KINDS``.
        file: index of the file, modulo the number of files.
        where: position in the file, 0..1.
        what: index of the odd value, name, number or other file, modulo their number.
    """

    kind: str
    file: int
    where: float
    what: int


@dataclass(frozen=True)
class Files:
    """The content of a folder.

    Args:
        contents: path of each regular file to its content.
        special: path of everything else to its kind in ``SPECIAL``.
    """

    contents: dict[str, bytes]
    special: dict[str, str] = field(default_factory=dict)

    def write(self, folder: str) -> None:
        """Write everything; a file whose path is taken, by a folder for instance, is left out as on a real disk."""
        for name, data in self.contents.items():
            path = os.path.join(folder, name)
            try:
                os.makedirs(os.path.dirname(path), exist_ok=True)
                with open(path, "wb") as file:
                    file.write(data)
            except (FileExistsError, NotADirectoryError, IsADirectoryError):
                continue
        for name, kind in self.special.items():
            path = os.path.join(folder, name)
            try:
                os.makedirs(os.path.dirname(path), exist_ok=True)
                _create_special(path, kind)
            except (FileExistsError, NotADirectoryError):
                continue


def _create_special(path: str, kind: str) -> None:
    """Create something that is not a regular file."""
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        os.mkdir(path)
    else:
        os.symlink({"loop": ".", "dangling": "nowhere", "unreadable": path}[kind], path)


def changes(*, names: bool = True, most: int = 4) -> st.SearchStrategy[list[Change]]:
    """Draw one to ``most`` changes; with ``names`` also changes of names and of whole files."""
    kinds = st.sampled_from(KINDS if names else BYTE_KINDS)
    change = st.builds(Change, kinds, st.integers(0, 15), st.floats(0, 1), st.integers(0, 255))
    return st.lists(change, min_size=1, max_size=most)


def changed(contents: dict[str, bytes], made: list[Change], *, others: Sequence[bytes] = ()) -> Files:
    """Return the folder after all changes.

    Args:
        contents: valid files.
        made: the changes, in order.
        others: contents that may replace that of a file.
    """
    files = dict(contents)
    special: dict[str, str] = {}
    for change in made:
        name = sorted(files)[change.file % len(files)]
        data, odd_name = files[name], NAMES[change.what % len(NAMES)]
        if change.kind in ("rename", "special", "gone"):
            del files[name]
        if change.kind in ("rename", "copy"):
            folder = name[: name.rfind("/") + 1] if change.where >= 0.5 else ""
            files[folder + odd_name] = data
        elif change.kind == "special":
            special[name] = SPECIAL[change.what % len(SPECIAL)]
        elif change.kind == "empty":
            files[name] = b""
        elif change.kind == "other" and others:
            files[name] = others[change.what % len(others)]
        elif change.kind != "gone":
            files[name] = changed_bytes(data, change)
        if not files:
            files["a.jpg"] = b""
    return Files(files, special)


def changed_bytes(data: bytes, change: Change) -> bytes:
    """Return the content of a file after a change of its bytes."""
    at, odd = int(change.where * len(data)), ODD[change.what % len(ODD)]
    if change.kind in ("token", "tokens", "drop", "repeat", "swap"):
        return _changed_tokens(data, change, odd)
    if change.kind == "insert":
        return data[:at] + odd + data[at:]
    if change.kind == "flip" and at < len(data):
        return data[:at] + bytes([data[at] ^ (1 << change.what % 8)]) + data[at + 1 :]
    if change.kind == "cut":
        return data[:at] if change.what % 2 else data[at:]
    if change.kind == "number":  # 1, 2 or 4 bytes that a parser may take for a size or an offset
        size = (1, 2, 4)[change.what % 3]
        value = (0, 1, 0x7F, 0x80, 0xFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF)[change.what // 3 % 8] & (256**size - 1)
        return data[:at] + value.to_bytes(size, "big" if change.what & 64 else "little") + data[at + size :]
    if change.kind == "encoding":
        return _encoded(data, change.what % 8)
    return data


def _changed_tokens(data: bytes, change: Change, odd: bytes) -> bytes:
    """Return the content of a file after a change of its tokens."""
    found = [match.span() for match in TOKEN.finditer(data)]
    if not found:
        return odd
    i = min(len(found) - 1, int(change.where * len(found)))
    start, end = found[i]
    last = found[min(len(found) - 1, i + 1 + change.what % 12)][1]
    if change.kind == "tokens":  # wherever it occurs
        return data.replace(data[start:end], odd)
    if change.kind == "swap":
        other = found[(i + 1 + change.what) % len(found)]
        (start1, end1), (start2, end2) = sorted([(start, end), other])
        if end1 > start2:
            return data
        return data[:start1] + data[start2:end2] + data[end1:start2] + data[start1:end1] + data[end2:]
    return {
        "token": data[:start] + odd + data[end:],
        "drop": data[:start] + data[last:],
        "repeat": data[:last] + data[start:last] + data[last:],
    }[change.kind]


def _encoded(data: bytes, encoding: int) -> bytes:
    """Return the content of a file in one of eight encodings or with other line ends."""
    text = data.decode("utf-8", "replace")
    return [
        text.encode("utf-16"),
        text.encode("utf-16-le", "replace"),
        b"\xef\xbb\xbf" + data,
        text.encode("latin-1", "replace"),
        data.replace(b"\n", b"\r\n"),
        data.replace(b"\n", b"\r"),
        text.encode("utf-32"),
        data + b"\0",
    ][encoding]
