"""Learning rate, progress and averaged weights, by hand."""

import pytest
import torch
from torch import nn

from utils.training.config import Train
from utils.training.schedule import Average, learning_rate, share_done


@pytest.mark.parametrize(
    "done, rate",
    [
        (0.0, 0.001),  # never quite nothing
        (0.05, 0.5),
        (0.1, 1.0),
        (0.3, 1.0),
        (0.6, 1.0),
        (0.8, 0.5),
        (0.9, 0.25),
        (0.9999, 0.001),
        (1.0, 0.001),
        (1.2, 0.001),  # a step that took longer than what was left
    ],
)
def test_the_learning_rate_rises_stays_and_falls(done, rate):
    assert learning_rate(done, Train(lr=2.0, warmup=0.1, decay=0.4)) == pytest.approx(2 * rate)


def test_without_warm_up_and_decay_it_is_constant():
    train = Train(lr=0.5, warmup=0.0, decay=0.0)
    assert [learning_rate(done, train) for done in (0.0, 0.5, 1.0)] == [0.5, 0.5, 0.5]


def test_a_run_is_as_far_as_its_steps_or_its_minutes():
    assert share_done(5, 100.0, Train(steps=20)) == 0.25
    assert share_done(5, 1.0, Train(steps=20, minutes=10.0)) == 0.25
    assert share_done(5, 8.0, Train(steps=20, minutes=10.0)) == 0.8


def network(value):
    module = nn.BatchNorm1d(2)
    with torch.no_grad():
        module.weight.fill_(value)
        module.running_mean.fill_(value)
    return module


def test_the_average_forgets_its_first_weights_and_then_decays():
    average, expected = Average(network(7.0), decay=0.25), None
    # The first weights are taken as they are; after n updates the decay is (1 + n) / (10 + n), at most 0.25.
    for n, value in enumerate((1.0, 2.0, 4.0, 8.0, 16.0)):
        average.update_parameters(network(value))
        decay = min(0.25, (1 + n) / (10 + n))
        expected = value if n == 0 else decay * expected + (1 - decay) * value
        assert average.module.weight.tolist() == pytest.approx([expected] * 2)
        assert average.module.running_mean.tolist() == [value] * 2  # a buffer is not averaged
    assert (1 + 1) / (10 + 1) < 0.25 < (1 + 4) / (10 + 4)


def test_without_decay_the_average_is_the_network():
    average = Average(network(7.0), decay=0.0)
    for value in (1 / 3, 0.1, 1e-8):
        average.update_parameters(network(value))
        assert torch.equal(average.module.weight, network(value).weight)


def test_a_restored_average_goes_on():
    straight, first, second = (Average(network(0.0), decay=0.9) for _ in range(3))
    for value in (1.0, 2.0, 3.0):
        straight.update_parameters(network(value))
    first.update_parameters(network(1.0))
    second.load_state_dict(first.state_dict())
    for value in (2.0, 3.0):
        second.update_parameters(network(value))
    assert torch.equal(straight.module.weight, second.module.weight)
