"""Files that may be anything: opened without waiting, and named where they are no image."""

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
"""Without O_NONBLOCK opening a FIFO waits for its writer."""

NOT_FILES = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFDIR: "a directory",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
"""What a path leads to, by its mode."""

STRANGERS = [
    (0, b"%!PS", "an EPS or PostScript file"),
    (0, b"\xc5\xd0\xd3\xc6", "an EPS file"),
    (0, b"%PDF", "a PDF file"),
    (0, b"version https://git-lfs", "a Git LFS pointer, not the picture"),
    (4, b"ftypavif", "an AVIF picture"),
    (4, b"ftypavis", "an AVIF picture"),
    (4, b"ftyphei", "a HEIC picture"),
    (4, b"ftypmif1", "a HEIC picture"),
    (4, b"ftyp", "a film"),
    (0, b"\0\0\0\x0cjP  ", "a JPEG 2000 picture"),
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
"""(offset, bytes, what such a file is) of files that are found under the name of an image."""


class ImageError(OSError):
    """An image file that cannot be used; ``file`` and ``reason``, which continues the sentence "FILE ...", say which and why."""

    def __init__(
        self, file: str, reason: str = ""
    ) -> None:  # a loader that brings it from another process has one text only
        super().__init__(f"{file} {reason}".strip())
        self.file, self.reason = file, reason

    def __reduce__(self) -> tuple:
        """Goes from one process to another."""
        return type(self), (self.file, self.reason)


class ImageNotFoundError(ImageError, FileNotFoundError):
    """There is no such file."""


def read_at(descriptor: int, count: int, offset: int) -> bytes:
    """At most ``count`` bytes of an open file from a place on."""
    if hasattr(os, "pread"):
        return os.pread(descriptor, count, offset)
    os.lseek(descriptor, offset, os.SEEK_SET)  # Windows
    return os.read(descriptor, count)


def open_regular(file: str) -> tuple[int, int]:
    """Descriptor and size of a file, never waiting for what is none.

    Raises:
        ImageError: it cannot be opened, or is no regular file; says what it is.
    """
    try:
        descriptor = os.open(file, OPENED)
        status = os.fstat(descriptor)
    except FileNotFoundError as error:
        raise ImageNotFoundError(
            file, "does not exist" + (": it is a link to nothing" if os.path.islink(file) else "")
        ) from error
    except ValueError as error:  # a zero byte in the name
        raise ImageNotFoundError(file.replace("\0", "\\0"), "does not exist") from error
    except OSError as error:
        reasons = {
            errno.ELOOP: "it is a link that leads to itself",
            errno.ENXIO: "it is a socket or a device, not a file",
            errno.EACCES: "permission denied",
        }
        raise ImageError(file, f"cannot be read: {reasons.get(error.errno, error.strerror)}") from error
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise ImageError(
            file, f"cannot be read: it is {NOT_FILES.get(stat.S_IFMT(status.st_mode), 'something else')}, not a file"
        )
    return descriptor, status.st_size


def stranger(head: bytes) -> str | None:
    """What a file is that begins so and is no image that is read; None if that is not known."""
    return next((what for offset, mark, what in STRANGERS if head[offset : offset + len(mark)] == mark), None)
