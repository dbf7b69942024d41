"""Torch-Pruning's high-level pruners under the loop that Coppice runs: the same steps, fine-tuning and budget.

Each step the library prunes a copy of the model as it likes, hidden sizes of transformers included; whatever comes out
is fine-tuned, evaluated, and taken back for a smaller step where it costs too much accuracy.
"""

from __future__ import annotations

import copy
import dataclasses
import warnings
from dataclasses import dataclass

import torch
import torch_pruning as tp
from torch import Tensor, nn

from coppice_api.run import RunConfig
from coppice_pruner.data import Splits
from coppice_pruner.models.attention import SelfAttention
from coppice_pruner.run.budget import QualityBudget
from coppice_pruner.run.history import History
from coppice_pruner.run.loop import CPU_MULTIPLE, CUDA_MULTIPLE, brief
from coppice_pruner.run.recovery import BETWEEN, Recovery, recover, settled_step
from coppice_pruner.run.step_rule import LEAST_STEP, Patient, Prompt, Rule
from coppice_pruner.training import Quality, Teacher, evaluate, fine_tune

PATIENT, PROMPT = Patient(first_step=0.2, largest_step=0.24), Prompt(first_step=0.2, largest_step=0.4)
"""The rules of Knapsack's steps, in shares of the channels: a fifth is about 36 % of a convolution's work, where the
first step of Knapsack asks for 25 % of the energy. Times the fourth root of the multiplications that are left, as the
loop's step is times the root of the energy that is left: that is about the root of the multiplications."""
_BATCHES, _BATCH_SIZE = 8, 64


@dataclass(frozen=True)
class Setting:
    """One way of using the library."""

    taylor: bool = False
    global_pruning: bool = False
    isomorphic: bool = False
    plain: bool = False
    """Whether a step is kept only within the budget, though Knapsack's may wait outside it."""


SETTINGS = {
    "tp_uniform": Setting(),
    "tp_global": Setting(global_pruning=True),
    "tp_taylor": Setting(taylor=True, global_pruning=True),
    "tp_isomorphic": Setting(taylor=True, global_pruning=True, isomorphic=True),
}
PLAIN = {f"{name}_plain": dataclasses.replace(setting, plain=True) for name, setting in SETTINGS.items()}
"""The same where steps that wait outside the budget are nothing that the library's users would have."""


def prune_with(setting: Setting, dense: nn.Module, data: Splits, config: RunConfig) -> tuple[nn.Module, int]:
    """Return the smallest model that a setting found within the accuracy budget, and the fine-tunings spent.

    Args:
        setting: Of the library.
        dense: Not changed.
        data: Fine-tuned on and evaluated with.
        config: Of the run that Coppice does: budget, iterations, fine-tuning and seed.
    """
    algorithm, budget = config.algorithm, QualityBudget.of(config.objective, data.task)
    base = evaluate(dense, data.evaluation, data.task)
    model = within = dense
    rule: Rule = PROMPT if setting.plain or brief(algorithm.fine_tune, data) else PATIENT
    step, steps = rule.first_step, 0
    stride: float | None = None
    history = History.of((), algorithm.max_iterations)
    works = _multiplications(dense, data)
    teacher = Teacher(dense, data.train) if algorithm.distillation else None

    def recovered(candidate: nn.Module, *, last: bool, further: bool = False) -> Recovery:
        def tuned(again: int) -> Quality:
            seed = algorithm.seed + 1 + history.done + again
            fine_tune(candidate, data, algorithm.fine_tune, seed=seed, teacher=teacher)
            return evaluate(candidate, data.evaluation, data.task)

        return recover(tuned, base, budget, rule, history, last=last, further=further)

    while True:
        ends = steps >= algorithm.max_iterations or not history.left or step < LEAST_STEP
        if model is not within and (ends or rule.settles(history.spent[-1], len(history.spent), history.outlook())):
            recovery = recovered(model, last=ends, further=True) if history.left else None
            if recovery and recovery.kept:
                step = settled_step(step, recovery, history.pace())
                history = history.further(recovery.spent)
                within = within if recovery.excess else model
                continue
            history = history.further(recovery.spent if recovery else ())
            left = _multiplications(within, data)
            stride = step
            step = BETWEEN * (1 - (_multiplications(model, data) / left) ** 0.5) / (left / works) ** 0.25
            model = within
        elif ends:
            return within, history.done
        else:
            share = step * (_multiplications(model, data) / works) ** 0.25
            candidate = step_of(setting, model, data, share, seed=algorithm.seed)
            recovery = recovered(candidate, last=steps + 1 >= algorithm.max_iterations)
            history = history.tried(recovery.spent, kept=recovery.kept)
            tried = stride if stride and recovery.kept else step
            step = rule.next_step(tried, recovery.spent, history.outlook(), kept=recovery.kept)
            if recovery.kept:
                stride = None
                model, steps = candidate, steps + 1
                within = within if recovery.excess else model


def step_of(setting: Setting, model: nn.Module, data: Splits, share: float, *, seed: int) -> nn.Module:
    """Return a copy of the model from which the library removed a share of the channels."""
    pruned = copy.deepcopy(model).eval()
    sample = data.train.take(slice(2)).inputs[0]
    importance = tp.importance.GroupTaylorImportance() if setting.taylor else tp.importance.GroupMagnitudeImportance()
    classifier = [module for module in pruned.modules() if isinstance(module, nn.Linear)][-1]
    heads: dict[nn.Module, int] = {}
    for module in pruned.modules():
        if isinstance(module, SelfAttention):
            for layer in (module.q_proj, module.k_proj, module.v_proj):
                heads[layer] = layer.out_features // module.head_dim
    unwrapped = [(item, item.dim() - 1) for name, item in pruned.named_parameters() if name == "position"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pruner = tp.pruner.BasePruner(
            pruned, sample, importance,
            global_pruning=setting.global_pruning, isomorphic=setting.isomorphic,
            pruning_ratio=share, max_pruning_ratio=0.5,
            round_to=CUDA_MULTIPLE if sample.is_cuda else CPU_MULTIPLE, ignored_layers=[classifier],
            num_heads=heads, prune_num_heads=bool(heads), prune_head_dims=not heads, head_pruning_ratio=share,
            unwrapped_parameters=unwrapped,
            in_channel_groups={}, out_channel_groups={},
        )  # fmt: skip
        if setting.taylor:
            _accumulate_gradients(pruned, data, seed)
        pruner.step()
    pruned.zero_grad(set_to_none=True)
    _check(pruned, sample)
    return pruned


def _multiplications(model: nn.Module, data: Splits) -> float:
    sample = data.train.take(slice(1)).inputs[0]
    return float(tp.utils.count_ops_and_params(copy.deepcopy(model).eval(), sample)[0])


def _accumulate_gradients(model: nn.Module, data: Splits, seed: int) -> None:
    order = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(seed))
    samples = data.train.take(order[: _BATCHES * _BATCH_SIZE])
    for batch in samples.batches(_BATCH_SIZE):
        data.task.loss(model(*batch.inputs), batch.targets).backward()


def _check(model: nn.Module, sample: Tensor) -> None:
    with torch.inference_mode():
        outputs = model(sample)
    assert bool(outputs.isfinite().all()), "the library left a model that does not work"
