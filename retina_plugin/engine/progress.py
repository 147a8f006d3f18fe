"""Reports the progress of a training every few seconds instead of every few iterations."""

import logging
import time

from detectron2.engine import HookBase

from retina_plugin.engine.console import duration

logger = logging.getLogger(__name__)

LINES = 18
"""Lines of a training of more than a few minutes; a quickstart of six minutes has one every twenty seconds."""

MOST_SECONDS = 60.0
"""Time between two lines of a long training."""

WINDOW = 20
"""Number of iterations over which the median of each loss is shown."""


class Progress(HookBase):
    """Logs a line after the first step, and then one every ``seconds``.

    A training that takes longer than ``LINES`` lines logs less often, but at least once per ``MOST_SECONDS``.

    Args:
        images: number of images per step, over all processes.
        seconds: time between two lines of a short training.
    """

    def __init__(self, *, images: int, seconds: float = 10.0) -> None:
        self.images, self.seconds = images, seconds
        self._start = self._last = 0.0

    def before_train(self) -> None:
        """Log how many iterations are ahead."""
        left = self.trainer.max_iter - self.trainer.iter
        if left > 0:
            logger.info("training: %d iterations of %d images", left, self.images)

    def after_step(self) -> None:
        """Log a line if it is due."""
        now = time.monotonic()
        if not self._start:
            self._start = now
        elif now - self._last < self._interval(now):
            return
        self._last = now
        logger.info("%s", self.line(now))

    def _interval(self, now: float) -> float:
        """Return the seconds between two lines, from the duration that the speed so far lets expect."""
        steps = self.trainer.iter - self.trainer.start_iter
        expected = (now - self._start) / max(steps, 1) * (self.trainer.max_iter - self.trainer.start_iter)
        return min(max(self.seconds, expected / LINES), max(self.seconds, MOST_SECONDS))

    def line(self, now: float) -> str:
        """Return the iteration, losses, learning rate, speed and remaining time as one line.

        Args:
            now: ``time.monotonic()``, in seconds.
        """
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
        loss = losses.get("total_loss", float("nan"))
        text = f"iteration {done} of {total} ({100 * done / total:.0f} %): loss {loss:.3g}"
        if parts:
            text += f" ({parts})"
        if "lr" in histories:
            text += f", lr {histories['lr'].latest():.2g}"
        steps = done - trainer.start_iter - 1  # without the first step, which takes longer than the others
        if steps > 0:
            each = (now - self._start) / steps
            text += f", {self.images / each:.3g} images/s, eta {duration(each * (total - done))}"
        return text
