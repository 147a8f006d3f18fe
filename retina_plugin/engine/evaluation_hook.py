"""Evaluation during training: keeps the best checkpoint and decides when to stop."""

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
"""How many metrics of a third-party evaluator are shown in the line about an evaluation."""

SHOWN = {"AP": "AP", "AP50": "AP50", "AP75": "AP75", "total_loss": "validation loss"}
SHOWN_AS = {"AP": ".1f", "AP50": ".1f", "AP75": ".1f", "total_loss": ".3f"}
"""Metrics in the line about an evaluation: the names shown there, and their number formats."""


class StopTraining(BaseException):
    """Ends the training early; not an error."""


class Evaluation(HookBase):
    """Evaluates every ``period`` iterations and after the last, keeps the best weights, and stops without progress.

    Must come before the hook that writes checkpoints, so that they hold its state: then a run that is killed and
    resumed continues as if it had not been interrupted.

    Args:
        period: TEST.EVAL_PERIOD, in iterations; 0: only after the last.
        evaluate: returns nested results, such as {"bbox": {"AP": 50.0}}; called by all processes.
        save: writes a checkpoint of the given name; called by the main process.
        metric: TEST.BEST_METRIC, "task/name", of the first of several datasets; "": no best checkpoint.
        patience: TEST.EARLY_STOP_PATIENCE, evaluations without improvement after which ``finished`` is set; 0: never.
        stopping: returns whether the run is about to stop; then the evaluation is postponed until it is resumed.

    Attributes:
        running: an evaluation is in progress.
        pending: an evaluation was due, but did not happen or did not end.
        finished: training ends before the next step.
        results: what the last evaluation returned; None before the first.
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
        self.best_iteration, self.waited, self.finished = -1, 0, False
        self.results: dict | None = None

    def before_train(self) -> None:
        """Do the evaluation that was due when the run was stopped, counted to the previous iteration."""
        if not self.pending:
            return
        for counted in (self.trainer, self.trainer.storage):
            counted.iter -= 1
        self._run()
        for counted in (self.trainer, self.trainer.storage):
            counted.iter += 1

    def after_step(self) -> None:
        """Evaluate if it is due."""
        done = self.trainer.iter + 1
        if done == self.trainer.max_iter or (self.period > 0 and done % self.period == 0):
            self.pending = True
            if not self.stopping():
                self._run()

    def after_train(self) -> None:
        """Evaluate a run that was resumed after its end once more, so that it has results."""
        if self.results is None and (self.finished or self.trainer.iter >= self.trainer.max_iter):
            self.results = self.evaluate()

    def _run(self) -> None:
        self.running = True
        try:
            self.results = self.evaluate()
        except Exception:
            if comm.is_main_process():  # a failed evaluation must not lose the training until here
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
            iteration = self.trainer.iter + 1
            line = evaluation_line(values, iteration, self.best, self.best_iteration + 1, self.metric)
            logger.info("%s", line)
        comm.synchronize()

    def _judge(self, value: float) -> None:
        """Keep the weights if the metric has improved, otherwise count towards the patience."""
        if math.isnan(value):
            logger.warning(
                "%s is not a number at iteration %d: this counts as no improvement",
                self.metric,
                self.trainer.iter + 1,
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
                "%s has not improved in %d evaluations: training ends (TEST.EARLY_STOP_PATIENCE)",
                self.metric,
                self.waited,
            )

    def state_dict(self) -> dict:
        """Return the best value and its iteration, the evaluations since, whether to end, and whether one is due."""
        return {
            "best": self.best,
            "best_iteration": self.best_iteration,
            "waited": self.waited,
            "finished": self.finished,
            "pending": self.pending,
        }

    def load_state_dict(self, state: dict) -> None:
        """Restore the best value, so that later ones are compared with it."""
        self.best, self.best_iteration, self.waited, self.finished = (
            state[key] for key in ("best", "best_iteration", "waited", "finished")
        )
        self.pending = state.get("pending", False)


def evaluation_line(
    values: dict[str, float], iteration: int, best: float | None, best_iteration: int, metric: str
) -> str:
    """Return the result of an evaluation as one line.

    Args:
        values: of all metrics, by "bbox/AP" or "dataset/bbox/AP".
        iteration: after which it was evaluated, from 1.
        best: best value of ``metric`` until now; None if no best is kept.
        best_iteration: iteration of ``best``, from 1.
        metric: TEST.BEST_METRIC.

    Example:
        >>> evaluation_line({"bbox/AP": 41.23, "bbox/AP50": 60.0, "bbox/AP-cat": 41.23}, 500, 41.23, 500, "bbox/AP")
        'evaluated after iteration 500: AP 41.2, AP50 60.0; the best bbox/AP so far'
    """
    text = figures(values)
    if best is not None and best_iteration == iteration:
        text += f"; the best {metric} so far"
    elif best is not None:
        text += f"; the best {metric} was {best:.1f} after iteration {best_iteration}"
    return f"evaluated after iteration {iteration}: {text}"


def figures(values: dict[str, float]) -> str:
    """Return the main metrics of an evaluation as text, grouped by dataset if there are several.

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
            shown = "n/a" if math.isnan(value) else format(value, SHOWN_AS[name])
            groups.setdefault(dataset, []).append(f"{SHOWN[name]} {shown}")
    if not groups:  # a third-party evaluator
        return ", ".join(f"{key} {value:.4g}" for key, value in list(values.items())[:UNKNOWN_SHOWN])
    return "; ".join(f"{dataset} {', '.join(metrics)}".lstrip() for dataset, metrics in groups.items())
