"""What fine-tuning survives: memory that runs out, several processes, budgets of quality."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from coppice_api.prunejob import FineTune, Objective, Schedule
from coppice_pruner.data import Splits, digits
from coppice_pruner.errors import InputRefusedError
from coppice_pruner.models import zoo
from coppice_pruner.run.budget import QualityBudget
from coppice_pruner.tasks import CAUSAL_LANGUAGE_MODELING, IMAGE_CLASSIFICATION
from coppice_pruner.training import OutOfMemoryError, Quality, fine_tune

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
