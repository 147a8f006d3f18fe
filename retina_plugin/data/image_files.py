"""Image files: which there are, and how large they are."""

from pathlib import Path

from PIL import Image

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}
"""Of files that count as images, in lower case."""

EXIF_ORIENTATION = 0x0112

TAIL = 4096
"""Bytes at the end in which a file's end mark has to be; some cameras write more after it."""


def size_of(file: str | Path) -> tuple[int, int]:
    """(height, width) that an image file says it has, turned as its EXIF data says; the pixels are not read.

    Raises:
        OSError: no such file, or no image.
    """
    with Image.open(file) as image:
        width, height = image.size
        return (width, height) if image.getexif().get(EXIF_ORIENTATION, 1) >= 5 else (height, width)


def list_images(folder: Path) -> list[Path]:
    """All image files below a folder, in order."""
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())


def defect_of(file: str | Path) -> str | None:
    """What keeps an image file from being read, as far as its first and last bytes show; None if nothing does."""
    try:
        size_of(file)
        with open(file, "rb") as stream:
            head = stream.read(8)
            stream.seek(max(0, stream.seek(0, 2) - TAIL))
            tail = stream.read()
    except (OSError, ValueError, SyntaxError) as error:  # Pillow has all three for broken files
        return f"cannot be read: {error}"
    if head[:3] == b"\xff\xd8\xff" and b"\xff\xd9" not in tail:
        return "is truncated: the JPEG has no end"
    if head == b"\x89PNG\r\n\x1a\n" and b"IEND" not in tail:
        return "is truncated: the PNG has no end"
    return None
