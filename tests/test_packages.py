"""pip:// finds files without running code."""

import sys
from pathlib import Path

import pytest

from detectron2.utils.file_io import PathManager

import retina_plugin  # noqa: F401  # registers the handler of pip://


@pytest.fixture()
def package(tmp_path, monkeypatch):
    """A package with a file and a subpackage; importing either ends the test run."""
    inner = tmp_path / "stranger/inner"
    inner.mkdir(parents=True)
    for folder in (inner.parent, inner):
        (folder / "__init__.py").write_text("raise SystemExit('code ran')", encoding="utf-8")
        (folder / "weights.pth").write_text(folder.name, encoding="utf-8")
    (tmp_path / "secret.pth").write_text("secret", encoding="utf-8")
    (tmp_path / "single.py").write_text("raise SystemExit('code ran')", encoding="utf-8")
    (tmp_path / "names/deep").mkdir(parents=True)
    (tmp_path / "names/deep/w.pth").write_text("w", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.parametrize(
    "path, text",
    [
        ("pip://stranger/weights.pth", "stranger"),
        ("pip://stranger.inner/weights.pth", "inner"),
        ("pip://stranger/inner/weights.pth", "inner"),
        ("pip://names.deep/w.pth", "w"),
        ("pip://stranger/inner/../weights.pth", "stranger"),
    ],
)
def test_a_file_is_found_without_importing_its_package(path, text, package):
    assert Path(PathManager.get_local_path(path)).read_text(encoding="utf-8") == text
    assert PathManager.isfile(path)
    assert "stranger" not in sys.modules


@pytest.mark.parametrize(
    "path",
    [
        "pip://stranger/../secret.pth",
        "pip://stranger.inner/../../secret.pth",
        "pip://stranger//etc/passwd",
        "pip://stranger/inner/../../secret.pth",
        "pip://../secret.pth",
        "pip:///etc/passwd",
        "pip://.stranger/weights.pth",
        "pip://single/secret.pth",
        "pip://os/os.py",
        "pip://stranger..inner/weights.pth",
    ],
)
def test_a_path_out_of_the_package_is_refused(path, package):
    with pytest.raises(ValueError, match="pip://"):
        PathManager.get_local_path(path)
    assert not PathManager.isfile(path)


@pytest.mark.parametrize(
    "path, message",
    [
        ("pip://no_such_package/x", "is not installed"),
        ("pip://no.such/x", "is not installed"),
        ("pip://stranger/x", "has no file"),
        ("pip://stranger.gone/x", "has no file"),
        ("pip://stranger", "has no file"),
    ],
)
def test_a_missing_package_or_file_is_named(path, message, package):
    with pytest.raises(FileNotFoundError, match=message):
        PathManager.get_local_path(path)


def test_a_package_cannot_be_written_to(package):
    with pytest.raises(ValueError, match="read, not written"):
        PathManager.open("pip://stranger/weights.pth", "w")
