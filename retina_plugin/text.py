"""Readers of untrusted text files, one per kind; they refuse what would hang, run code or exhaust the memory."""

import codecs
import contextlib
import json
import os
import re
import stat
from typing import NoReturn
from xml.etree import ElementTree

import msgspec
import yaml

MOST_BYTES = {"JSON": 4 << 30, "YAML": 16 << 20, "XML": 256 << 20, "text": 1 << 30}
"""Largest file of each kind that is read, in bytes."""

MOST_DEPTH, MOST_ALIASES, MOST_NODES = 50, 1000, 2_000_000
"""Limits of a YAML document: nesting depth, references to anchors, and nodes after all references are expanded."""

MOST_XML_DEPTH = 100

_LOADERS = {
    False: getattr(yaml, "CSafeLoader", yaml.SafeLoader),
    True: getattr(yaml, "CBaseLoader", yaml.BaseLoader),
}
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_XML_ENCODING = re.compile(r"""^\s*<\?xml[^>]*?encoding\s*=\s*["']([^"']+)["'][^>]*\?>""")


def read_bytes(file: str | os.PathLike, *, most: int = MOST_BYTES["text"]) -> bytes:
    """Return the content of a regular file.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If it is a folder, a pipe or a device, is larger than ``most`` bytes, or cannot be read.
    """
    try:
        found = os.stat(file)
        if stat.S_ISDIR(found.st_mode):
            raise ValueError(f"{file} is a folder, but a file is expected")
        if not stat.S_ISREG(found.st_mode):
            raise ValueError(f"{file} is a pipe, socket or device, but a file is expected")
        if found.st_size > most:
            raise ValueError(f"{file} has {found.st_size:,} bytes; the limit is {most:,}")
        with open(file, "rb") as stream:
            return stream.read()
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{file} does not exist") from error
    except OSError as error:
        raise ValueError(f"{file} cannot be read: {error.strerror or error}") from error


def decode(data: bytes) -> tuple[str, str | None]:
    r"""Return the text of a file, without its byte order mark, and the encoding if it had to be guessed.

    UTF-8, UTF-16 and UTF-32 are recognised by their bytes or their mark. Other bytes are read as Windows-1252.

    Example:
        >>> decode(b"\xef\xbb\xbfcat"), decode("Käfer".encode("cp1252"))
        (('cat', None), ('Käfer', 'cp1252'))
    """
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return data[len(mark) :].decode(encoding, errors="replace"), None
    if b"\0" in data[:200]:
        for encoding, zeros in (("utf-16-le", data[1:200:2]), ("utf-16-be", data[0:200:2])):
            if zeros.count(0) > 0.8 * len(zeros):
                return data.decode(encoding, errors="replace"), None
    try:
        return data.decode("utf-8"), None
    except UnicodeDecodeError:
        try:
            return data.decode("cp1252"), "cp1252"
        except UnicodeDecodeError:
            return data.decode("latin-1"), "latin-1"


def read_text(file: str | os.PathLike) -> tuple[str, str | None]:
    """Return the text of a file, and its encoding if it was guessed; see :func:`read_bytes` and :func:`decode`."""
    return decode(read_bytes(file))


def read_json(file: str | os.PathLike) -> object:
    """Return the content of a JSON file. NaN and infinities are accepted in the form that Python's json writes.

    Raises:
        FileNotFoundError: See :func:`read_bytes`.
        ValueError: See :func:`read_bytes`; or if the file is not valid JSON, with the position of the error.
    """
    data = read_bytes(file, most=MOST_BYTES["JSON"])
    with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return msgspec.json.decode(data)
    # The file may have what msgspec rejects: NaN, a different encoding, a number of 400 digits.
    try:
        return json.loads(decode(data)[0])
    except json.JSONDecodeError as error:
        at_the_end = error.pos >= len(error.doc.rstrip()) - 1
        cut = "; it seems to be cut off" if at_the_end or "Unterminated" in error.msg else ""
        raise ValueError(
            f"{file}, line {error.lineno}: not valid JSON: {error.msg} at character {error.pos:,}{cut}"
        ) from error
    except RecursionError as error:
        raise ValueError(f"{file} is nested too deeply to be read") from error
    except ValueError as error:
        raise ValueError(f"{file} is not valid JSON: {error}") from error


def read_yaml(file: str | os.PathLike, *, what: str = "", strings: bool = False) -> object:
    """Return the content of a YAML file; see :func:`parse_yaml`.

    Args:
        file: Path of the file.
        what: What the file is, for messages, such as "config file".
        strings: See :func:`parse_yaml`.

    Raises:
        FileNotFoundError: See :func:`read_bytes`.
        ValueError: See :func:`read_bytes` and :func:`parse_yaml`.
    """
    text, _ = decode(read_bytes(file, most=MOST_BYTES["YAML"]))
    return parse_yaml(text, source=f"{what} {file}".strip(), strings=strings)


def parse_yaml(text: str, *, source: str = "YAML", strings: bool = False) -> object:
    """Return the content of a YAML text: data, never objects.

    Args:
        text: One document.
        source: Where the text comes from, for messages.
        strings: Keep every value as text, so that ``no`` and ``007`` stay names.

    Raises:
        ValueError: If the text is not valid YAML, has several documents, a tag, a repeated key, references that expand
            to more than ``MOST_NODES`` nodes or to themselves, or is nested deeper than ``MOST_DEPTH``. The message
            has source and line.
    """
    loader = None
    try:
        # The loader's constructor already fails if the text has a character that YAML does not allow.
        _measure(text, source)
        loader = _LOADERS[strings](text)
        node = loader.get_single_node()
        if node is None:
            return None
        _refuse_repeated_keys(node, source, set())
        return loader.construct_document(node)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{source}, line {mark.line + 1}" if mark else source
        problem = str(getattr(error, "problem", None) or error)
        raise ValueError(f"{place}: {' '.join(problem.split())}") from error
    except _RefusedYAMLError:
        raise
    except (ValueError, TypeError, OverflowError, AttributeError, RecursionError) as error:
        raise ValueError(f"{source}: {error}") from error
    finally:
        if loader is not None:
            loader.dispose()


class _RefusedYAMLError(ValueError):
    """The reason why a document is refused, with source and line."""


def _measure(text: str, source: str) -> None:
    """Refuse a document that is too deep or large, refers to itself or has tags, before building anything from it."""

    def refuse(event: yaml.Event, what: str) -> NoReturn:
        """Raise with source and line."""
        assert event.start_mark is not None, "events of a text have a position"
        raise _RefusedYAMLError(f"{source}, line {event.start_mark.line + 1}: {what}")

    sizes: dict[str, int | None] = {}  # nodes of each anchor; None while its collection is open
    counts, names, aliases = [0], [], 0
    for event in yaml.parse(text, Loader=_LOADERS[False]):
        if isinstance(event, yaml.AliasEvent):
            aliases += 1
            assert event.anchor is not None, "a reference has a name"
            size = sizes.get(event.anchor, 0)
            if size is None:
                refuse(event, f"*{event.anchor} refers to the collection that contains it")
            counts[-1] += size
            if aliases > MOST_ALIASES:
                refuse(event, f"more than {MOST_ALIASES} references (*{event.anchor})")
        elif isinstance(event, (yaml.ScalarEvent, yaml.CollectionStartEvent)):
            if event.tag not in (None, "!"):
                refuse(event, f"the tag {event.tag!r} is not allowed: files hold data, not objects")
            counts[-1] += 1
            if isinstance(event, yaml.CollectionStartEvent):
                counts.append(0)
                names.append(event.anchor)
                if len(counts) > MOST_DEPTH:
                    refuse(event, f"nested deeper than {MOST_DEPTH}")
            if event.anchor:
                sizes[event.anchor] = None if isinstance(event, yaml.CollectionStartEvent) else 1
        elif isinstance(event, yaml.CollectionEndEvent):
            size, name = counts.pop(), names.pop()
            counts[-1] += size
            if name:
                sizes[name] = size + 1
        if counts[-1] > MOST_NODES:
            refuse(event, f"references expand to more than {MOST_NODES:,} values")


def _refuse_repeated_keys(node: yaml.Node, source: str, done: set[int]) -> None:
    """Refuse a document in which a mapping has the same key twice.

    Args:
        node: Root of the part to check.
        source: Where the document comes from, for messages.
        done: Ids of the nodes that were checked already; extended.
    """
    if id(node) in done:
        return
    done.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for child in node.value:
            _refuse_repeated_keys(child, source, done)
    elif isinstance(node, yaml.MappingNode):
        seen = set()
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value != "<<":
                if (key.tag, key.value) in seen:
                    line = key.start_mark.line + 1
                    raise _RefusedYAMLError(f"{source}, line {line}: the key {key.value!r} appears twice")
                seen.add((key.tag, key.value))
            _refuse_repeated_keys(key, source, done)
            _refuse_repeated_keys(value, source, done)


class _LimitedTree(ElementTree.TreeBuilder):
    """Tree builder that refuses nesting deeper than ``MOST_XML_DEPTH``."""

    depth = 0

    def start(self, tag: str, attributes: dict) -> ElementTree.Element:
        """Open an element.

        Raises:
            ValueError: If it is nested too deeply.
        """
        self.depth += 1
        if self.depth > MOST_XML_DEPTH:
            raise ValueError(f"nested deeper than {MOST_XML_DEPTH}")
        return super().start(tag, attributes)

    def end(self, tag: str) -> ElementTree.Element:
        """Close an element."""
        self.depth -= 1
        return super().end(tag)


def read_xml(file: str | os.PathLike) -> tuple[ElementTree.Element, str | None]:
    """Return the root of an XML file, and its encoding if it had to be guessed.

    A file whose declared encoding is unknown or wrong is read nevertheless.

    Raises:
        FileNotFoundError: See :func:`read_bytes`.
        ValueError: See :func:`read_bytes`; or if the file is not valid XML, declares entities, or is nested too deeply.
    """
    data = read_bytes(file, most=MOST_BYTES["XML"])
    if b"<!ENTITY" in data or b"<!ENTITY".decode().encode("utf-16-le") in data:
        raise ValueError(f"{file} declares XML entities, which annotations do not need but attacks use")
    try:
        return ElementTree.fromstring(data, ElementTree.XMLParser(target=_LimitedTree())), None
    except (ElementTree.ParseError, LookupError, ValueError) as error:
        first = error
    text, guessed = decode(data)
    if declared := _XML_ENCODING.match(text):
        is_ascii_or_utf8 = declared[1].lower().replace("_", "-") in ("utf-8", "utf8", "us-ascii", "ascii")
        if guessed or not is_ascii_or_utf8:
            try:
                text, guessed = data.decode(declared[1]), None
            except (LookupError, UnicodeDecodeError):
                guessed = guessed or "utf-8"
        text = text[declared.end() :]  # ElementTree rejects a declaration of the encoding in a str
    try:
        return ElementTree.fromstring(text, ElementTree.XMLParser(target=_LimitedTree())), guessed
    except (ElementTree.ParseError, LookupError, ValueError):
        raise ValueError(f"{file} is not valid XML: {first}") from first
