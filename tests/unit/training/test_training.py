"""Fine-tuning and evaluation on real digits."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from coppice_api.prunejob import FineTune, Optimizer
from coppice_pruner.data import digits
from coppice_pruner.models import zoo
from coppice_pruner.training import DivergedError, Teacher, evaluate, fine_tune

DATA = digits()


def small() -> nn.Module:
    torch.manual_seed(0)
    return zoo.vgg(widths=[[4], [8]])


@pytest.mark.parametrize(
    ("optimizer", "rate"), [(Optimizer.ADAM, "0.01"), (Optimizer.ADAMW, "0.01"), (Optimizer.SGD, "0.1")]
)
def test_training_learns(optimizer: Optimizer, rate: str) -> None:
    torch.manual_seed(0)
    model = zoo.vgg(widths=[[16], [32]])
    settings = FineTune(optimizer=optimizer, epochs=8, learning_rate=rate, batch_size=64)
    fine_tune(model, DATA, settings, seed=0)
    assert evaluate(model, DATA.evaluation, DATA.task).accuracy_ratio > 0.8
    assert not model.training


def test_the_same_seed_gives_the_same_weights_whatever_the_global_state() -> None:
    results = []
    for noise in (1, 2):
        model = small()
        torch.manual_seed(noise)
        fine_tune(model, DATA, FineTune(), seed=7)
        results.append(model.state_dict())
    torch.testing.assert_close(results[0], results[1], rtol=0, atol=0)


def test_a_teacher_is_followed_and_not_changed() -> None:
    teacher = small()
    fine_tune(teacher, DATA, FineTune(epochs=3, learning_rate="0.01"), seed=0)
    before = copy.deepcopy(teacher.state_dict())

    def distance(student: nn.Module) -> float:
        with torch.inference_mode():
            return float((student(DATA.evaluation.inputs[0]) - teacher(DATA.evaluation.inputs[0])).abs().mean())

    alone, taught = small(), small()
    fine_tune(alone, DATA, FineTune(learning_rate="0.01"), seed=1)
    fine_tune(taught, DATA, FineTune(learning_rate="0.01"), seed=1, teacher=Teacher(teacher, DATA.train))
    assert distance(taught) < distance(alone)
    torch.testing.assert_close(teacher.state_dict(), before, rtol=0, atol=0)


def test_a_teacher_is_asked_once_for_each_sample_whose_answer_is_no_larger_than_itself() -> None:
    class Counting(nn.Module):
        def __init__(self, repeats: int) -> None:
            super().__init__()
            self.asked, self._repeats = 0, repeats

        def forward(self, images: Tensor) -> Tensor:
            self.asked += len(images)
            return images.flatten(1)[:, :10].repeat(1, self._repeats)

    student, samples = small(), len(DATA.train)
    small_answers, large_answers = Counting(1), Counting(10)
    teacher = Teacher(small_answers, DATA.train)
    for seed in (0, 1):
        fine_tune(student, DATA, FineTune(epochs=2), seed=seed, teacher=teacher)
    assert small_answers.asked == samples + 1, "one to see how large an answer is"
    chosen = torch.tensor([5, 3])
    for module in (small_answers, large_answers):
        batch = DATA.train.take(chosen)
        asked = module.asked
        answers = Teacher(module, DATA.train).answers(chosen, batch)
        torch.testing.assert_close(answers, module(*batch.inputs), rtol=0, atol=0)
        assert module.asked - asked == (samples + 1 if module is small_answers else 3) + len(chosen)


def test_divergence_is_an_error_that_names_the_field() -> None:
    model = small()
    with torch.no_grad():
        next(model.parameters()).fill_(float("nan"))
    with pytest.raises(DivergedError, match=r"algorithm\.fineTune\.learningRate"):
        fine_tune(model, DATA, FineTune(), seed=0)


def test_it_stops_when_asked_and_reports_every_epoch() -> None:
    epochs: list[int] = []
    fine_tune(small(), DATA, FineTune(epochs=2), seed=0, on_epoch=lambda epoch, _loss: epochs.append(epoch))
    assert epochs == [1, 2]
    stopped = small()
    before = copy.deepcopy(stopped.state_dict())
    fine_tune(stopped, DATA, FineTune(epochs=2), seed=0, should_stop=lambda: True)
    torch.testing.assert_close(stopped.state_dict(), before, rtol=0, atol=0)


def test_accuracy_is_the_share_of_right_answers() -> None:
    class Constant(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.eye(10)[3].expand(len(x), 10)

    want = float((DATA.evaluation.targets == 3).float().mean())
    assert evaluate(Constant(), DATA.evaluation, DATA.task).accuracy_ratio == pytest.approx(want)
