"""Opens third-party files, which may be anything, without blocking, and identifies those that are not images."""

import errno
import os
import stat

OPENED = (
    os.O_RDONLY
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_NOCTTY", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
)
"""Flags for opening a file; without O_NONBLOCK, opening a FIFO waits for a writer."""

NOT_FILES = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFDIR: "a directory",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
"""What a path leads to if not to a file, by the type in its mode."""

STRANGERS = [
    (0, b"%!PS", "an EPS or PostScript file"),
    (0, b"\xc5\xd0\xd3\xc6", "an EPS file"),
    (0, b"%PDF", "a PDF file"),
    (0, b"version https://git-lfs", "a Git LFS pointer, not the image"),
    (4, b"ftypavif", "an AVIF image"),
    (4, b"ftypavis", "an AVIF image"),
    (4, b"ftyphei", "a HEIC image"),
    (4, b"ftypmif1", "a HEIC image"),
    (4, b"ftyp", "a video"),
    (0, b"\0\0\0\x0cjP  ", "a JPEG 2000 image"),
    (0, b"8BPS", "a Photoshop file"),
    (0, b"PK\x03\x04", "a zip archive"),
    (0, b"\x1f\x8b", "a gzip archive"),
    (0, b"<svg", "an SVG drawing"),
    (0, b"<?xml", "an XML file"),
    (0, b"<!DOCTYPE", "a web page"),
    (0, b"<html", "a web page"),
    (0, b"\x89HDF", "an HDF5 file"),
    (128, b"DICM", "a DICOM file"),
]
"""(offset, bytes, type of file) of unsupported files that people name like images."""


class ImageError(OSError):
    """An image file that cannot be used.

    Args:
        file: its path; the whole message if there is no ``reason``: a data loader that raises the error of a worker
            process again has only one text.
        reason: why, as the continuation of the sentence "FILE ...".
    """

    def __init__(self, file: str, reason: str = "") -> None:
        super().__init__(f"{file} {reason}".strip())
        self.file, self.reason = file, reason

    def __reduce__(self) -> tuple:
        """Pickle both arguments, so that they survive the way from one process to another."""
        return type(self), (self.file, self.reason)


class ImageNotFoundError(ImageError, FileNotFoundError):
    """An image file that does not exist."""


def read_at(descriptor: int, count: int, offset: int) -> bytes:
    """Read at most ``count`` bytes of an open file, from ``offset`` on."""
    if hasattr(os, "pread"):
        return os.pread(descriptor, count, offset)
    os.lseek(descriptor, offset, os.SEEK_SET)  # Windows
    return os.read(descriptor, count)


def open_regular(file: str) -> tuple[int, int]:
    """Open a file and return its descriptor and size; never blocks on what is not a file.

    Raises:
        ImageError: it cannot be opened, or is not a regular file; the reason states what it is.
    """
    try:
        descriptor = os.open(file, OPENED)
        status = os.fstat(descriptor)
    except FileNotFoundError as error:
        dangling = ": it is a link to nothing" if os.path.islink(file) else ""
        raise ImageNotFoundError(file, f"does not exist{dangling}") from error
    except ValueError as error:  # a zero byte in the name
        raise ImageNotFoundError(file.replace("\0", "\\0"), "does not exist") from error
    except OSError as error:
        reasons = {
            errno.ELOOP: "it is a link that leads to itself",
            errno.ENXIO: "it is a socket or a device, not a file",
            errno.EACCES: "permission denied",
        }
        reason = reasons.get(error.errno or 0, error.strerror or str(error))
        raise ImageError(file, f"cannot be read: {reason}") from error
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        what = NOT_FILES.get(stat.S_IFMT(status.st_mode), "something else")
        raise ImageError(file, f"cannot be read: it is {what}, not a file")
    return descriptor, status.st_size


def stranger(head: bytes) -> str | None:
    """Name the type of an unsupported file by its first bytes; None if it is not known."""
    return next((what for offset, mark, what in STRANGERS if head[offset : offset + len(mark)] == mark), None)
