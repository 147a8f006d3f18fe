"""What the fuzzer does to valid files: changes of tokens, bytes and names, drawn by hypothesis."""

import os
import re
from dataclasses import dataclass, field

from hypothesis import strategies as st

TOKEN = re.compile(rb"[A-Za-z0-9_.+\-]+|[^A-Za-z0-9_.+\-\s]")
"""A word, a number, or one sign of punctuation."""

ODD = [
    b"", b"null", b"None", b"true", b"-1", b"0", b"1", b"2", b"-0.0", b"0.5", b"1e400", b"-1e400", b"NaN", b"nan", b"Infinity", b"inf", b"1" + b"0" * 400, b"9007199254740993",
    b"18446744073709551616", b"-9223372036854775809", b"1_000", b"0x10", b"1,5", b'"1"', b'"12.5"', b'"false"', b'""', b"[]", b"{}", b"[[]]", b'[{"a": [1]}]', b"[" * 60 + b"]" * 60, b"\\", b"/", b"..", b"../..",
    b"/etc/passwd", b"C:\\\\a\\\\b.jpg", b"a.jpg", b"A.JPG", b"nowhere.png", b"images", b"train", b"cat", b"Cat", b"dog ", b"\xef\xbb\xbf", b"\xff\xfe", b"\xe9", b"\xc3\xa9", b"e\xcc\x81", b"\xed\xa0\x80",
    b"\0", b"\x1b[31m", b"\r\n", b"\n", b"\t", b";", b",", b":", b"#", b"&", b"*", b"&a", b"*a", b"!!python/object:os.system", b"<", b">", b"&amp;", b"&x;", b"<!DOCTYPE a [<!ENTITY x 'y'>]>", b"$", b"|", b"x" * 5000,
]  # fmt: skip
"""Values that are put in the place of others."""

NAMES = [
    "a.JPG",
    "a .jpg",
    "A.jpg",
    "a[1].jpg",
    "é.png",
    "e\u0301.png",
    "a.jpeg",
    "x.txt",
    "a.xml",
    "train.json",
    "val.json",
    "val/a.jpg",
    "train/labels/a.txt",
    "Thumbs.db",
    ".hidden.json",
    "a.json",
    "data.yaml",
    "classes.txt",
    "deep/er/b c.png",
    "$x|y.png",
]
"""Names that files get."""

KINDS = [
    "token",
    "tokens",
    "drop",
    "repeat",
    "swap",
    "insert",
    "flip",
    "cut",
    "number",
    "encoding",
    "rename",
    "copy",
    "empty",
    "gone",
    "special",
    "other",
]
SPECIAL = ["fifo", "folder", "loop", "dangling", "unreadable"]


@dataclass(frozen=True)
class Change:
    """One change of one file.

    Args:
        kind: of ``KINDS``.
        file: which, modulo the number of files.
        where: 0..1, the place in the file.
        what: which odd value, name, number, other file, ...
    """

    kind: str
    file: int
    where: float
    what: int


@dataclass(frozen=True)
class Files:
    """A folder to write: contents, and what is no plain file."""

    contents: dict[str, bytes]
    special: dict[str, str] = field(default_factory=dict)

    def write(self, folder: str) -> None:
        """Write everything; a file that is in the place of a folder is left out, as a disk would have it."""
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
                {
                    "fifo": os.mkfifo, "folder": os.mkdir, "loop": lambda path: os.symlink(".", path), "dangling": lambda path: os.symlink("nowhere", path),
                    "unreadable": lambda path: os.symlink(path, path),
                }[kind](path)  # fmt: skip
            except (FileExistsError, NotADirectoryError):
                continue


def changes(*, names: bool = True, most: int = 4) -> st.SearchStrategy[list[Change]]:
    """One to ``most`` changes; ``names``: also of the files' names and kinds."""
    kinds = KINDS if names else KINDS[: KINDS.index("rename")]
    return st.lists(
        st.builds(Change, st.sampled_from(kinds), st.integers(0, 15), st.floats(0, 1), st.integers(0, 255)),
        min_size=1,
        max_size=most,
    )


def changed(contents: dict[str, bytes], made: list[Change], *, others: list[bytes] = ()) -> Files:
    """The folder after all changes.

    Args:
        contents: valid files.
        made: in order.
        others: files of which parts may be taken.
    """
    files, special = dict(contents), {}
    for change in made:
        name = sorted(files)[change.file % len(files)]
        data, odd_name = files[name], NAMES[change.what % len(NAMES)]
        if change.kind in ("rename", "special", "gone"):
            del files[name]
        if change.kind == "rename" or change.kind == "copy":
            files[odd_name if change.where < 0.5 else name.rpartition("/")[0] + "/" * ("/" in name) + odd_name] = data
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
    """The content of one file after one change of its bytes."""
    at, odd = int(change.where * len(data)), ODD[change.what % len(ODD)]
    if change.kind in ("token", "tokens", "drop", "repeat", "swap"):
        found = [match.span() for match in TOKEN.finditer(data)]
        if not found:
            return odd
        i = min(len(found) - 1, int(change.where * len(found)))
        begin, end = found[i]
        last = found[min(len(found) - 1, i + 1 + change.what % 12)][1]
        if change.kind == "tokens":  # every place where it stands
            return data.replace(data[begin:end], odd)
        if change.kind == "swap":
            other = found[(i + 1 + change.what) % len(found)]
            (b1, e1), (b2, e2) = sorted([(begin, end), other])
            return data[:b1] + data[b2:e2] + data[e1:b2] + data[b1:e1] + data[e2:] if e1 <= b2 else data
        return {
            "token": data[:begin] + odd + data[end:],
            "drop": data[:begin] + data[last:],
            "repeat": data[:last] + data[begin:last] + data[last:],
        }[change.kind]
    if change.kind == "insert":
        return data[:at] + odd + data[at:]
    if change.kind == "flip":
        return data[:at] + bytes([data[at] ^ (1 << change.what % 8)]) + data[at + 1 :] if at < len(data) else data
    if change.kind == "cut":
        return data[:at] if change.what % 2 else data[at:]
    if change.kind == "number":  # 1, 2 or 4 bytes that a header may take for a size or an offset
        size = (1, 2, 4)[change.what % 3]
        value = (0, 1, 0x7F, 0x80, 0xFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF)[change.what // 3 % 8] & (256**size - 1)
        return data[:at] + value.to_bytes(size, "big" if change.what & 64 else "little") + data[at + size :]
    if change.kind == "encoding":
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
        ][change.what % 8]
    return data
