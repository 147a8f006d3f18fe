"""pip:// finds files and runs nothing."""

import sys

import pytest

from detectron2.utils.file_io import PathManager

import retina_plugin  # noqa: F401


@pytest.fixture()
def package(tmp_path, monkeypatch):
    """A package whose import is noticed, with a file and a package inside."""
    inner = tmp_path / "stranger/inner"
    inner.mkdir(parents=True)
    for folder in (inner.parent, inner):
        (folder / "__init__.py").write_text("raise SystemExit('code ran')")
        (folder / "weights.pth").write_text(folder.name)
    (tmp_path / "secret.pth").write_text("secret")
    (tmp_path / "single.py").write_text("raise SystemExit('code ran')")
    (tmp_path / "names/deep").mkdir(parents=True)
    (tmp_path / "names/deep/w.pth").write_text("w")
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
def test_a_file_is_found_without_the_package_being_imported(path, text, package):
    assert open(PathManager.get_local_path(path)).read() == text and PathManager.isfile(path)
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
def test_nothing_outside_the_package_is(path, package):
    with pytest.raises(ValueError, match="pip://"):
        PathManager.get_local_path(path)
    assert not PathManager.isfile(path)


@pytest.mark.parametrize(
    "path, said",
    [
        ("pip://no_such_package/x", "is not installed"),
        ("pip://no.such/x", "is not installed"),
        ("pip://stranger/x", "has no file"),
        ("pip://stranger.gone/x", "has no file"),
        ("pip://stranger", "has no file"),
    ],
)
def test_what_is_not_there_is_named(path, said, package):
    with pytest.raises(FileNotFoundError, match=said):
        PathManager.get_local_path(path)


def test_it_is_not_written_to(package):
    with pytest.raises(ValueError, match="read, not written"):
        PathManager.open("pip://stranger/weights.pth", "w")
