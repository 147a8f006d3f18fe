"""Untrusted text files: what is not text, hangs or expands without bound is refused with a clear message."""

import math
import os
import time

import pytest

from retina_plugin.text import decode, parse_yaml, read_bytes, read_json, read_text, read_xml, read_yaml

PAIRS = list(zip("abcdefghi", "bcdefghij", strict=True))
"""Anchors of a document in which each one refers to the one before, nine times: 9**10 values once expanded."""


@pytest.mark.parametrize(
    "text",
    [
        "a: [1, 2",
        "a: 1\nb: !!python/object/apply:os.system [ls]",
        "a: !custom 1",
        "a: 1\na: 2",
        "x: {k: 1, k: 2}",
        "a: " + "[" * 5000,
        "a: &a [*a]",
        "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(f"{c}: &{c} [{','.join([f'*{p}'] * 9)}]\n" for p, c in PAIRS),
        "? [a, b]\n: 1",
        "a: 2020-13-45",
        "--- 1\n--- 2",
        "a: \x01",
        "a: *missing",
        "<<: 5",
        "a: 0o9\nb: 1:99:99\n<<: [1]",
    ],
)
def test_bad_yaml_is_refused_quickly(text):
    start = time.perf_counter()
    with pytest.raises(ValueError, match="^card"):
        parse_yaml(text, source="card")
    assert time.perf_counter() - start < 2


def test_yaml_merge_keys_that_would_expand_are_refused_before_expanding():
    text = "a: &a {" + ", ".join(f"k{i}: 1" for i in range(9)) + "}\n"
    for p, c in PAIRS:
        text += f"{c}: &{c} {{" + ", ".join(f"k{i}: *{p}" for i in range(9)) + f", <<: *{p}}}\n"
    with pytest.raises(ValueError, match="expand"):
        parse_yaml(text)


def test_a_yaml_error_names_the_line():
    with pytest.raises(ValueError, match="card, line 3"):
        parse_yaml("a: 1\nb: 2\nb: 3\n", source="card")


def test_good_yaml_is_read():
    assert parse_yaml("a: &x [1, 2]\nb: *x\nc: {<<: {d: 1}, e: .inf}") == {
        "a": [1, 2],
        "b": [1, 2],
        "c": {"d": 1, "e": math.inf},
    }
    assert parse_yaml("names: [yes, no, 007]", strings=True) == {"names": ["yes", "no", "007"]}
    assert parse_yaml("") is None


@pytest.mark.parametrize(
    "text, expected",
    [
        ('{"a": NaN}', "nan"),
        ('{"a": 123456789012345678901234567890}', "123456789012345678901234567890"),
        ('\ufeff{"a": 1}', "1"),
    ],
)
def test_json_is_read_as_python_writes_it(tmp_path, text, expected):
    file = tmp_path / "a.json"
    file.write_text(text, encoding="utf-8")
    assert str(read_json(file)["a"]) == expected
    assert float(read_json(file)["a"]) == pytest.approx(float(expected), nan_ok=True)


@pytest.mark.parametrize(
    "text, words",
    [
        ('{"a": [1, 2', "cut off"),
        ('{"a":' * 100_000, "nested"),
        ("", "not valid JSON"),
        ("hello", "line 1"),
        ("1" * 10_000, "not valid JSON"),
    ],
)
def test_bad_json_is_refused(tmp_path, text, words):
    file = tmp_path / "a.json"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=words):
        read_json(file)


@pytest.mark.parametrize(
    "data, text",
    [
        (b'<?xml version="1.0" encoding="foo"?><a>x</a>', "x"),
        ('<?xml version="1.0" encoding="utf-8"?><a>Käfer</a>'.encode("cp1252"), "Käfer"),
        ('<?xml version="1.0" encoding="gbk"?><a>猫</a>'.encode("gbk"), "猫"),
        ('<?xml version="1.0" encoding="utf-16"?><a>猫</a>'.encode("utf-16"), "猫"),
        (b"\xef\xbb\xbf<a>x</a>", "x"),
    ],
)
def test_xml_is_read_in_any_encoding(tmp_path, data, text):
    (tmp_path / "a.xml").write_bytes(data)
    assert read_xml(tmp_path / "a.xml")[0].text == text


@pytest.mark.parametrize(
    "data", [b"", b"<a>", b"<a>" * 5000 + b"</a>" * 5000, b'<!DOCTYPE a [<!ENTITY x "y">]><a>&x;</a>', b"\x00\x01"]
)
def test_bad_xml_is_refused(tmp_path, data):
    (tmp_path / "a.xml").write_bytes(data)
    with pytest.raises(ValueError, match=r"a\.xml"):
        read_xml(tmp_path / "a.xml")


def test_only_regular_files_are_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    os.symlink(tmp_path / "gone", tmp_path / "link")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for name, error in (
        ("pipe", ValueError),
        ("link", FileNotFoundError),
        ("loop", ValueError),
        (".", ValueError),
        ("a" * 5000, ValueError),
    ):
        for read in (read_bytes, read_text, read_json, read_yaml, read_xml):
            with pytest.raises(error):
                read(tmp_path / name)
    (tmp_path / "big").write_bytes(b"x" * 100)
    with pytest.raises(ValueError, match="100 bytes"):
        read_bytes(tmp_path / "big", most=10)


def test_names_with_a_null_byte_are_refused():
    with pytest.raises(ValueError, match="null (byte|character)"):
        read_bytes("a\0b")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_unicode_encodings_are_recognised(encoding):
    assert decode("cat, Käfer and more".encode(encoding)) == ("cat, Käfer and more", None)
