"""What fine-tuning survives: memory that runs out, several processes, budgets of quality."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from coppice_api.prunejob import Algorithm, FineTune, Objective, Schedule
from coppice_pruner.data import Splits, digits
from coppice_pruner.errors import InputRefusedError
from coppice_pruner.models import zoo
from coppice_pruner.run.budget import QualityBudget
from coppice_pruner.run.polish import polish
from coppice_pruner.tasks import CAUSAL_LANGUAGE_MODELING, IMAGE_CLASSIFICATION
from coppice_pruner.training import DivergedError, OutOfMemoryError, Processes, Quality, fine_tune

DATA = digits()
FEW = Splits(DATA.train.take(slice(256)), DATA.evaluation.take(slice(64)), DATA.classes)


class Small(nn.Module):
    """A perceptron that runs out of memory, as a stand-in of a device does, above a batch size."""

    def __init__(self, limit: int = 10**9) -> None:
        super().__init__()
        self.layers, self.limit = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10)), limit

    def forward(self, x: Tensor) -> Tensor:
        if self.training and len(x) > self.limit:
            raise torch.OutOfMemoryError("stand-in: out of memory")
        result: Tensor = self.layers(x)
        return result


def trained(limit: int) -> tuple[dict[str, Tensor], int]:
    torch.manual_seed(0)
    model = Small(limit)
    done = fine_tune(model, FEW, FineTune(batch_size=64), seed=0)
    return model.state_dict(), done.micro_batch_size


def test_out_of_memory_halves_the_batch_and_ends_at_the_same_weights() -> None:
    whole, size = trained(10**9)
    parts, smaller = trained(20)
    assert (size, smaller) == (64, 16)
    torch.testing.assert_close(parts, whole, rtol=1e-4, atol=1e-5)


def test_a_sample_that_does_not_fit_is_refused_with_what_to_do() -> None:
    with pytest.raises(OutOfMemoryError, match=r"spec\.hardware"):
        fine_tune(Small(limit=0), FEW, FineTune(batch_size=4), seed=0)


def test_training_ends_early_when_the_loss_stands_still() -> None:
    model = Small()
    done = fine_tune(
        model, FEW, FineTune(epochs=9, learning_rate="0", early_stop_epochs=2, schedule=Schedule.CONSTANT), seed=0
    )
    assert done.epochs <= 4


def test_gradients_longer_than_the_limit_are_shortened() -> None:
    torch.manual_seed(0)
    model = zoo.vgg(widths=[[4]])
    fine_tune(model, FEW, FineTune(gradient_clip_norm="0.0001", learning_rate="1", optimizer="SGD"), seed=0)
    assert all(bool(item.isfinite().all()) for item in model.parameters())


def test_a_budget_of_perplexity_is_for_language_models_only() -> None:
    objective = Objective(energy_reduction_percent=10, max_perplexity_increase_percent="2")
    with pytest.raises(InputRefusedError, match=r"spec\.objective\.maxPerplexityIncreasePercent"):
        QualityBudget.of(objective, IMAGE_CLASSIFICATION)
    budget = QualityBudget.of(objective, CAUSAL_LANGUAGE_MODELING)
    assert not budget.excess(Quality(0.5, 1.0), Quality(0.4, 1.0 + 0.0198))
    assert "perplexity rose by" in budget.excess(Quality(0.5, 1.0), Quality(0.5, 1.03))
    assert "perplexity" in budget.excess(Quality(0.5, 1.0), Quality(0.5, float("nan")))


def test_points_bound_the_accuracy_where_no_perplexity_is_asked_for() -> None:
    budget = QualityBudget.of(Objective(energy_reduction_percent=10), IMAGE_CLASSIFICATION)
    assert not budget.excess(Quality(0.9, 0.1), Quality(0.895, 0.1))
    assert "accuracy fell by 0.60 points to 89.40%; 0.5 are allowed" in budget.excess(
        Quality(0.9, 0.1), Quality(0.894, 0.1)
    )


def test_micro_batches_add_up_to_the_same_step() -> None:
    whole, _ = trained(10**9)
    torch.manual_seed(0)
    model = Small()
    done = fine_tune(model, FEW, FineTune(batch_size=64, micro_batch_size=24), seed=0)
    assert done.micro_batch_size == 24
    torch.testing.assert_close(dict(model.state_dict()), whole, rtol=1e-4, atol=1e-5)


class Edge(nn.Module):
    """A perceptron whose loss is finite while one gradient is not: the slope of a root at zero."""

    def __init__(self) -> None:
        super().__init__()
        self.small, self.zero = Small(), nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.small(x) + self.zero.sqrt()
        return result


def test_a_weight_that_breaks_in_the_last_step_is_noticed_though_every_loss_was_finite() -> None:
    with pytest.raises(DivergedError, match=r"algorithm\.fineTune\.learningRate"):
        fine_tune(Edge(), FEW, FineTune(batch_size=256), seed=0)


def test_what_dropout_draws_follows_from_the_seed_and_disturbs_nobody() -> None:
    def result(seed: int) -> Tensor:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Dropout(0.5), Small())
        torch.manual_seed(seed)
        expected = torch.rand(1, generator=torch.Generator().manual_seed(seed))
        fine_tune(model, FEW, FineTune(), seed=3)
        assert torch.equal(torch.rand(1), expected)
        return next(model.parameters()).detach()

    assert torch.equal(result(1), result(2))


def test_convolutions_come_back_in_the_layout_that_a_loaded_model_has() -> None:
    model = zoo.vgg(widths=[[4], [4]])
    fine_tune(model, FEW, FineTune(), seed=0)
    for parameter in model.parameters():
        assert parameter.stride() == torch.empty(parameter.shape).stride()


def test_a_part_of_a_batch_counts_by_its_samples() -> None:
    # 3 of 5 samples in one process, 2 in the other: the mean of both is the mean over the five.
    assert [Processes(rank, 2).weight(own, 5) for rank, own in ((0, 3), (1, 2))] == [1.2, 0.8]
    # Fewer samples than processes: all train on the same ones.
    assert Processes(1, 4).weight(2, 2) == 1.0


@pytest.mark.parametrize(
    ("after", "kept"),
    [
        (Quality(0.9, 0.2), True),
        (Quality(0.8, 0.9), True),
        (Quality(0.79, 0.1), False),
        (Quality(float("nan"), 0.1), False),
    ],
    ids=["better", "as good", "worse", "not a number"],
)
def test_the_final_epochs_are_kept_only_if_accuracy_does_not_fall(after: Quality, kept: bool) -> None:
    model, before = Small(), Quality(0.8, 0.3)
    weights = copy.deepcopy(model.state_dict())
    epochs: list[int] = []
    result, quality = polish(
        model, before, FEW, Algorithm(fine_tune=FineTune(epochs=1, final_epochs=2)),
        teacher=None, processes=Processes(), evaluate=lambda _model: after,
        on_epoch=lambda epoch, _loss: epochs.append(epoch),
    )  # fmt: skip
    assert epochs == [1, 2]
    assert (result is not model, quality == after) == (kept, kept)
    torch.testing.assert_close(model.state_dict(), weights, rtol=0, atol=0)


def test_final_epochs_that_diverge_leave_the_model_as_it_was() -> None:
    model, before = Edge(), Quality(0.8, 0.3)
    result, quality = polish(
        model, before, FEW, Algorithm(fine_tune=FineTune(final_epochs=2)),
        teacher=None, processes=Processes(), evaluate=lambda _model: before, on_epoch=lambda _epoch, _loss: None,
    )  # fmt: skip
    assert (result, quality) == (model, before)
