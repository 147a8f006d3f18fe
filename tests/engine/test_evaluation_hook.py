"""Which checkpoint is kept as the best, and when training ends."""

import math
from types import SimpleNamespace

import pytest

from retina_plugin.engine.evaluation_hook import Evaluation, evaluation_line


class Run:
    """A trainer whose evaluations return the values of a list."""

    def __init__(self, values, patience=0, max_iter=100, period=1, metric="bbox/AP"):
        self.values, self.saved, self.logged = iter(values), [], []
        self.hook = Evaluation(
            period=period, evaluate=self.evaluate, save=self.saved.append, metric=metric, patience=patience
        )
        storage = SimpleNamespace(put_scalars=lambda **kwargs: self.logged.append(kwargs))
        self.hook.trainer = SimpleNamespace(iter=0, max_iter=max_iter, storage=storage)

    def evaluate(self):
        value = next(self.values)
        if isinstance(value, Exception):
            raise value
        return {"bbox": {"AP": value}}

    def step(self, count=1):
        for _ in range(count):
            self.hook.after_step()
            self.hook.trainer.iter += 1
        return self


def test_the_best_is_saved_when_it_improves_which_nan_does_not():
    run = Run([10.0, math.nan, 9.0, 11.0, 11.0]).step(5)
    assert run.saved == ["model_best", "model_best"]
    assert (run.hook.best, run.hook.best_iteration, run.hook.waited) == (11.0, 3, 1)
    assert not run.hook.finished and run.logged[0]["bbox/AP"] == 10.0


def test_training_ends_after_enough_evaluations_without_improvement():
    run = Run([5.0, 4.0, 6.0, 5.0, math.nan, 5.0], patience=3).step(5)
    assert not run.hook.finished
    assert run.step().hook.finished


def test_of_several_datasets_the_first_decides():
    run = Run([])
    run.hook.evaluate = lambda: {"val": {"bbox": {"AP": 3.0}}, "other": {"bbox": {"AP": 9.0}}}
    assert run.step().hook.best == 3.0 and run.saved == ["model_best"]


def test_it_evaluates_every_period_and_at_the_end():
    run = Run([1.0, 2.0, 3.0], period=4, max_iter=10).step(10)
    assert [next(run.values, None), run.hook.best_iteration] == [None, 9]


def test_a_resumed_hook_continues_with_its_state():
    first = Run([5.0, 4.0], patience=2).step(2)
    second = Run([4.9], patience=2)
    second.hook.load_state_dict(first.hook.state_dict())
    assert second.step().hook.finished and second.saved == []


def test_a_failed_evaluation_does_not_lose_the_weights():
    run = Run([RuntimeError("disk full")])
    with pytest.raises(RuntimeError, match="disk full"):
        run.step()
    assert run.saved == ["model_0000000"]


def test_a_metric_that_does_not_exist_is_named():
    with pytest.raises(ValueError, match="TEST.BEST_METRIC is 'bbox/mAP'; the evaluation has bbox/AP"):
        Run([1.0], metric="bbox/mAP").step()


def test_a_finished_run_is_evaluated_when_it_is_resumed():
    run = Run([7.0], max_iter=3)
    run.hook.trainer.iter = 3
    run.hook.after_train()
    assert run.hook.results == {"bbox": {"AP": 7.0}}


def test_the_line_names_an_earlier_best():
    line = evaluation_line({"bbox/AP": 40.0}, 600, 41.2, 500, "bbox/AP")
    assert line == "evaluated after iteration 600: AP 40.0; the best bbox/AP was 41.2 after iteration 500"
