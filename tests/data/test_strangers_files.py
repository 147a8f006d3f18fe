"""Third-party files, which may be anything, are opened without blocking and identified."""

import os
import pickle
import socket

import pytest

from retina_plugin.data.strangers_files import STRANGERS, ImageError, ImageNotFoundError, open_regular, stranger


def reason(path):
    with pytest.raises(ImageError) as caught:
        os.close(open_regular(str(path))[0])
    return caught.value.reason


def test_a_file_is_opened_with_its_size(tmp_path):
    (tmp_path / "ö 画.png").write_bytes(b"1234")
    descriptor, size = open_regular(str(tmp_path / "ö 画.png"))
    os.close(descriptor)
    assert size == 4


def test_what_is_not_a_file_is_identified_without_blocking(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "fifo.png")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    (tmp_path / "nowhere.png").symlink_to(tmp_path / "nothing")
    (tmp_path / "to_fifo.png").symlink_to(tmp_path / "fifo.png")
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as server:
        monkeypatch.chdir(tmp_path)  # the name of a socket must be short
        server.bind("socket.png")
        assert "a socket" in reason(tmp_path / "socket.png")
    assert "a FIFO" in reason(tmp_path / "fifo.png") and "a FIFO" in reason(tmp_path / "to_fifo.png")
    assert "a directory" in reason(tmp_path / "folder.png")
    assert "a link that leads to itself" in reason(tmp_path / "loop.png")
    assert "a link to nothing" in reason(tmp_path / "nowhere.png")
    assert "a device" in reason(tmp_path / "zero.png")
    assert reason(tmp_path / "absent.png") == "does not exist"
    assert "does not exist" in reason("a\0b.png")
    assert "too long" in reason(tmp_path / ("x" * 300 + ".png"))


def test_a_missing_permission_is_reported(monkeypatch):
    monkeypatch.setattr(os, "open", lambda *args: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))
    assert reason("secret.png") == "cannot be read: permission denied"


@pytest.mark.parametrize("offset, mark, what", STRANGERS)
def test_each_unsupported_file_type_is_identified(offset, mark, what):
    assert stranger(bytes(offset) + mark + b"...") == what


def test_an_image_error_keeps_file_and_reason_when_pickled():
    error = pickle.loads(pickle.dumps(ImageError("a.png", "is broken")))
    assert (error.file, error.reason, str(error)) == ("a.png", "is broken", "a.png is broken")
    assert str(ImageError("a text")) == "a text" and isinstance(ImageNotFoundError("a"), FileNotFoundError)
