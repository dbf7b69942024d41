"""What a person reads in the terminal while a run goes on."""

from __future__ import annotations

from coppice_cli.display import step_line
from coppice_pruner.run.journal import Iteration


def test_a_step_says_what_became_of_it() -> None:
    kept = Iteration(3, True, 0.2, {"a": 8, "b": 4}, 0.9512, 0.415, 0.4)
    assert step_line(kept) == "  step  3  accuracy 95.12%  energy -41.5%  widths 8 4"
    why = "accuracy fell by 0.90 points to 91.48%; 0.5 are allowed"
    back = Iteration(4, False, 0.2, {"a": 4, "b": 4}, 0.9148, None, 0.5, why)
    assert step_line(back) == f"  step  4  taken back: {why}"


def test_a_step_that_was_kept_outside_the_budget_says_so() -> None:
    why = "accuracy fell by 0.90 points to 91.48%; 0.5 are allowed"
    outside = Iteration(4, True, 0.2, {"a": 4}, 0.9148, 0.5, 0.5, why)
    assert step_line(outside).endswith(f"for now, {why}")
