"""Evaluation during training: the best checkpoint, and when to stop."""

import logging
import math
from collections.abc import Callable

from detectron2.engine import HookBase
from detectron2.evaluation.testing import flatten_results_dict
from detectron2.utils import comm

logger = logging.getLogger(__name__)

BEST = "model_best"
"""Name of the checkpoint with the best metric; ``last_checkpoint``, from which a run resumes, never names it."""


UNKNOWN_SHOWN = 4
"""Figures of an evaluator of somebody else's in the line about an evaluation."""

SHOWN = {"AP": "AP", "AP50": "AP50", "AP75": "AP75", "total_loss": "validation loss"}
SHOWN_AS = {"AP": ".1f", "AP50": ".1f", "AP75": ".1f", "total_loss": ".3f"}
"""Figures of the line about an evaluation, what they are called there and how they are written."""


class StopTraining(BaseException):
    """Ends the training without being an error."""


class Evaluation(HookBase):
    """Evaluates every ``period`` iterations and after the last, keeps the best, and says when it gets no better.

    Stands before the hook that writes checkpoints, so that these hold what it knows: a run that is killed and resumed
    goes on as if it had not been.

    Args:
        period: TEST.EVAL_PERIOD, iterations; 0: only after the last.
        evaluate: returns nested results, such as {"bbox": {"AP": 50.0}}; called by all processes.
        save: writes a checkpoint of the given name; called by the main process.
        metric: TEST.BEST_METRIC, "task/name", of the first of several datasets; "" keeps no best.
        patience: TEST.EARLY_STOP_PATIENCE, evaluations without a better one after which ``finished`` is set; 0: never.
        stopping: whether the run is about to be stopped: then the evaluation waits until it is resumed.

    Attributes:
        running: an evaluation goes on.
        pending: one was due, and did not happen or did not end.
    """

    def __init__(
        self,
        *,
        period: int,
        evaluate: Callable[[], dict],
        save: Callable[[str], None],
        metric: str,
        patience: int,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self.stopping, self.running, self.pending = stopping, False, False
        self.period, self.evaluate, self.save, self.metric, self.patience = period, evaluate, save, metric, patience
        self.best: float | None = None
        self.best_iteration, self.waited, self.finished, self.results = -1, 0, False, None

    def before_train(self) -> None:
        """Do the evaluation that was due when the run was stopped, as of the iteration before."""
        if not self.pending:
            return
        for counted in (self.trainer, self.trainer.storage):
            counted.iter -= 1
        self._run()
        for counted in (self.trainer, self.trainer.storage):
            counted.iter += 1

    def after_step(self) -> None:
        """Evaluate if it is time."""
        done = self.trainer.iter + 1
        if done == self.trainer.max_iter or (self.period > 0 and done % self.period == 0):
            self.pending = True
            if not self.stopping():
                self._run()

    def after_train(self) -> None:
        """A run that was resumed after its end is evaluated once more: its results are wanted."""
        if self.results is None and (self.finished or self.trainer.iter >= self.trainer.max_iter):
            self.results = self.evaluate()

    def _run(self) -> None:
        self.running = True
        try:
            self.results = self.evaluate()
        except Exception:
            if comm.is_main_process():  # the training until here is worth more than its evaluation
                self.save(f"model_{self.trainer.iter:07d}")
            raise
        finally:
            self.running = False
        self.pending = False
        values = {key: float(value) for key, value in flatten_results_dict(self.results or {}).items()}
        self.trainer.storage.put_scalars(**values, smoothing_hint=False)
        if self.metric:
            # Only the main process has results.
            found = [value for key, value in values.items() if key == self.metric or key.endswith(f"/{self.metric}")]
            if values and not found:
                raise ValueError(f"TEST.BEST_METRIC is {self.metric!r}; the evaluation has {', '.join(values)}")
            self._judge(comm.all_gather(found[0] if found else math.nan)[0])
        if values:
            logger.info(
                "%s", evaluation_line(values, self.trainer.iter + 1, self.best, self.best_iteration + 1, self.metric)
            )
        comm.synchronize()

    def _judge(self, value: float) -> None:
        if math.isnan(value):
            logger.warning(
                "%s is not a number at iteration %d: it counts as no better", self.metric, self.trainer.iter + 1
            )
        if not math.isnan(value) and (self.best is None or value > self.best):
            self.best, self.best_iteration, self.waited = value, self.trainer.iter, 0
            if comm.is_main_process():
                self.save(BEST)
        else:
            self.waited += 1
        if self.patience and self.waited >= self.patience:
            self.finished = True
            logger.info(
                "no better %s in %d evaluations: training ends (TEST.EARLY_STOP_PATIENCE)", self.metric, self.waited
            )

    def state_dict(self) -> dict:
        """Best value and its iteration, evaluations since, whether training is to end, and whether an evaluation is due."""
        return {
            "best": self.best,
            "best_iteration": self.best_iteration,
            "waited": self.waited,
            "finished": self.finished,
            "pending": self.pending,
        }

    def load_state_dict(self, state: dict) -> None:
        """Go on comparing with the best there was."""
        self.best, self.best_iteration, self.waited, self.finished = (
            state[key] for key in ("best", "best_iteration", "waited", "finished")
        )
        self.pending = state.get("pending", False)


def evaluation_line(
    values: dict[str, float], iteration: int, best: float | None, best_iteration: int, metric: str
) -> str:
    """What an evaluation gave, in one line.

    Args:
        values: of all metrics, as "bbox/AP" or "dataset/bbox/AP".
        iteration: after which, from 1.
        best, best_iteration: of ``metric`` until now.
        metric: TEST.BEST_METRIC.

    Example:
        >>> evaluation_line({"bbox/AP": 41.23, "bbox/AP50": 60.0, "bbox/AP-cat": 41.23}, 500, 41.23, 500, "bbox/AP")
        'evaluated after iteration 500: AP 41.2, AP50 60.0; the best bbox/AP until now'
    """
    text = figures(values)
    if best is not None:
        text += (
            f"; the best {metric} until now"
            if best_iteration == iteration
            else f"; the best {metric} was {best:.1f} after iteration {best_iteration}"
        )
    return f"evaluated after iteration {iteration}: {text}"


def figures(values: dict[str, float]) -> str:
    """The figures of an evaluation that people look at first, by dataset if there are several.

    Example:
        >>> figures({"bbox/AP": 41.23, "validation/total_loss": 0.5})
        'AP 41.2, validation loss 0.500'
        >>> figures({"images/count": 200.0})
        'images/count 200'
    """
    groups: dict[str, list[str]] = {}
    for key, value in values.items():
        group, _, name = key.rpartition("/")
        dataset = "" if group == "validation" else group.removesuffix("bbox").rstrip("/")
        if name in SHOWN:
            groups.setdefault(dataset, []).append(
                f"{SHOWN[name]} {'n/a' if math.isnan(value) else format(value, SHOWN_AS[name])}"
            )
    if not groups:  # an evaluator of somebody else's
        return ", ".join(f"{key} {value:.4g}" for key, value in list(values.items())[:UNKNOWN_SHOWN])
    return "; ".join(f"{dataset} {', '.join(shown)}".lstrip() for dataset, shown in groups.items())
