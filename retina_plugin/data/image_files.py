"""Image files: which there are, and how large they are."""

from pathlib import Path

from PIL import Image

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}
"""Of files that count as images, in lower case."""

EXIF_ORIENTATION = 0x0112


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
