"""The record of a run: all kept steps are logged at once, and the first value that is not finite is named."""

from pathlib import Path

import pytest
import torch

from utils.errors import UserError
from utils.training.record import Record


class Log:
    def __init__(self):
        self.rows = []

    def write(self, values, step, pictures=None):
        self.rows.append((step, values))


def terms(total, epe=0.5):
    return {"epe": torch.tensor(epe, requires_grad=True), "total": torch.tensor(total)}


def record(log=None, may_overflow=False):
    return Record(log or Log(), ["a", "b", "c"], Path("run/state.pt"), 2, may_overflow)


def test_nothing_is_written_before_a_flush_and_each_step_once():
    log = Log()
    kept = record(log)
    kept.add(0, 0.1, terms(1.0), torch.tensor(2.0), torch.tensor([0, 1]))
    kept.add(1, 0.2, terms(3.0, 0.25), torch.tensor(4.0), torch.tensor([2, 2]))
    assert log.rows == []
    shown = kept.flush()
    assert [step for step, _ in log.rows] == [1, 2]
    first, second = (values for _, values in log.rows)
    assert first["loss/total"] == 1 and first["loss/epe"] == 0.5 and first["gradient_norm"] == 2
    assert second["loss/total"] == 3 and second["loss/epe"] == 0.25 and second["learning_rate"] == 0.2
    assert shown["total"] == 3 and shown["samples_per_second"] == second["samples_per_second"] > 0
    assert kept.flush() == {} and len(log.rows) == 2


def test_of_a_step_of_several_batches_the_last_is_logged_and_all_are_checked():
    log = Log()
    kept = record(log)
    kept.add(0, 0.1, terms(1.0), None, torch.tensor([0]))
    kept.add(0, 0.1, terms(2.0), torch.tensor(1.0), torch.tensor([1]))
    kept.flush()
    assert [(step, values["loss/total"]) for step, values in log.rows] == [(1, 2.0)]
    kept.add(1, 0.1, terms(float("nan")), None, torch.tensor([2]))
    kept.add(1, 0.1, terms(2.0), torch.tensor(1.0), torch.tensor([1]))
    with pytest.raises(UserError, match="step 1: total is nan on a batch of c; stopped, with run/state.pt as it was"):
        kept.flush()


def test_the_first_value_that_is_not_finite_is_named_with_its_images():
    kept = record()
    kept.add(0, 0.1, terms(1.0), torch.tensor(1.0), torch.tensor([0]))
    kept.add(1, 0.1, terms(1.0, float("inf")), torch.tensor(1.0), torch.tensor([2, 0]))
    kept.add(2, 0.1, terms(float("nan")), torch.tensor(1.0), torch.tensor([1]))
    with pytest.raises(UserError, match="step 1: epe is inf on a batch of c, a;"):
        kept.flush()


def test_a_norm_may_overflow_only_where_the_scaler_skips_the_step():
    for may_overflow in (True, False):
        kept = record(may_overflow=may_overflow)
        kept.add(0, 0.1, terms(1.0), torch.tensor(float("inf")), torch.tensor([0]))
        if may_overflow:
            kept.flush()
        else:
            with pytest.raises(UserError, match="step 0: the gradient's norm is inf on a batch of a"):
                kept.flush()
