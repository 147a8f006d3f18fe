"""Which images share a batch: those that need the least padding."""


def best_fitting(pool: list[dict], batch_size: int) -> list[int]:
    """Return the indices of the first sample of a pool and of those that need the least padding to share its tensor.

    Args:
        pool: samples with "image" (C, H, W), the oldest first.
        batch_size: most indices to return.
    """
    height, width = pool[0]["image"].shape[-2:]
    # The first image fits itself best, without padding. Sorting is stable: of images that fit equally well, the
    # oldest is taken.
    return sorted(range(len(pool)), key=lambda i: _growth(pool[i], height, width))[:batch_size]


def _growth(sample: dict, height: int, width: int) -> int:
    """Return the pixels of padding if a sample shares a tensor with an image of height x width."""
    h, w = sample["image"].shape[-2:]
    area = max(h, height) * max(w, width)
    return 2 * area - h * w - height * width
