"""How far a training is, by time instead of by iterations."""

import logging
import time

from detectron2.engine import HookBase

logger = logging.getLogger(__name__)

WINDOW = 20
"""Iterations over which the shown losses are medians."""


class Progress(HookBase):
    """Logs a line after the first step, and then one every ``seconds``.

    Args:
        images: of a step, over all processes.
        seconds: between lines.
    """

    def __init__(self, *, images: int, seconds: float = 10.0) -> None:
        self.images, self.seconds = images, seconds
        self._begin = self._last = 0.0

    def before_train(self) -> None:
        """Say what is about to happen."""
        left = self.trainer.max_iter - self.trainer.iter
        if left > 0:
            logger.info("training: %d iterations of %d images", left, self.images)

    def after_step(self) -> None:
        """Log if it is time."""
        now = time.monotonic()
        if not self._begin:
            self._begin = now
        elif now - self._last < self.seconds:
            return
        self._last = now
        logger.info("%s", self.line(now))

    def line(self, now: float) -> str:
        """Iteration, losses, learning rate, speed and the time that is left."""
        trainer, histories = self.trainer, self.trainer.storage.histories()
        done, total = trainer.iter + 1, trainer.max_iter
        losses = {
            name: history.median(trainer.storage.count_samples(name, WINDOW))
            for name, history in histories.items()
            if name == "total_loss" or name.startswith("loss_")
        }
        parts = ", ".join(
            f"{name.removeprefix('loss_')} {value:.3g}" for name, value in losses.items() if name != "total_loss"
        )
        text = (
            f"iteration {done} of {total} ({100 * done / total:.0f} %): loss {losses.get('total_loss', float('nan')):.3g}"
            + (f" ({parts})" if parts else "")
        )
        if "lr" in histories:
            text += f", lr {histories['lr'].latest():.2g}"
        steps = (
            done - trainer.start_iter - 1
        )  # since the first step of this start ended, which takes longer than others
        if steps > 0:
            each = (now - self._begin) / steps
            text += f", {self.images / each:.3g} images/s, eta {duration(each * (total - done))}"
        return text


def duration(seconds: float) -> str:
    """Two figures for people.

    Example:
        >>> duration(42), duration(700), duration(10000), duration(200000)
        ('42 s', '11 min 40 s', '2 h 46 min', '2 d 7 h')
    """
    seconds = int(seconds)
    for size, unit, smaller, below in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if seconds >= size:
            return f"{seconds // size} {unit} {seconds % size // smaller} {below}"
    return f"{seconds} s"
