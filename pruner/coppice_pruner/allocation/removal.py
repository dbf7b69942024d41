"""Removal by score: the part that the paper's modes, magnitude and uniform pruning share."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from coppice_pruner.allocation.context import AllocationContext, GroupState, Kept

ChannelScores = Callable[[GroupState], Sequence[float]]


def quota(context: AllocationContext, step: float) -> int:
    """Return how many channels a step removes: a share of all channels now, at least 1."""
    return max(1, round(step * sum(group.width for group in context.groups)))


def remove_lowest_channels(context: AllocationContext, score: ChannelScores, step: float) -> Kept:
    """Return what to keep when the lowest channels of the whole model go.

    Widths move from one permitted width to the next lower one. The mean score of the channels between the two decides
    which group moves next, so alignment neither stops the step short nor removes a channel that ranks high.

    Args:
        context: The model now.
        score: Gives each channel of a group a score that is comparable between groups.
        step: Share of all channels to remove, 0..1.
    """
    widths, left = context.widths, quota(context, step)
    steps = {group.name: _steps_down(context, group, score(group)) for group in context.groups}
    while True:
        open_steps = [(items[0].score, name) for name, items in steps.items() if items]
        # The first step is always taken: a quota below the alignment must not look like the end.
        fitting = [
            (value, name)
            for value, name in open_steps
            if widths == context.widths or widths[name] - steps[name][0].width <= left
        ]
        if left <= 0 or not fitting:
            return context.kept(widths)
        _, name = min(fitting)
        taken = steps[name].pop(0)
        left -= widths[name] - taken.width
        widths[name] = taken.width


def remove_from_lowest_groups(context: AllocationContext, importance: dict[str, float], step: float) -> Kept:
    """Return what to keep when the least important group loses channels until it has no more to give, then the next.

    This is lines 8 to 11 of Algorithm 1 read literally: a score for each layer, and inside a layer only the norm is
    there to rank channels.

    Args:
        context: The model now.
        importance: An index for each group.
        step: Share of all channels to remove, 0..1.
    """
    widths, left = context.widths, quota(context, step)
    for group in sorted(context.groups, key=lambda item: (importance[item.name], item.name)):
        choices = context.choices(group)
        # The smallest permitted width that does not remove more than is left of the step.
        chosen = next(choice for choice in choices if group.width - choice <= left)
        if chosen == group.width and widths == context.widths and len(choices) > 1:
            chosen = choices[-2]
        left -= group.width - chosen
        widths[group.name] = chosen
        if left <= 0:
            break
    return context.kept(widths)


def remove_evenly(context: AllocationContext, step: float) -> Kept:
    """Return what to keep when every group loses the same share, to the nearest permitted width.

    Where rounding would leave every group as it is, the group whose next width is nearest to its share moves alone.
    """
    widths, misses = context.widths, []
    for group in context.groups:
        choices, target = context.choices(group), (1.0 - step) * group.width
        widths[group.name] = min(choices, key=lambda choice: (abs(choice - target), -choice))
        if len(choices) > 1:
            misses.append(((target - choices[-2]) / group.width, group.name, choices[-2]))
    if widths == context.widths and misses:
        _, name, width = min(misses)
        widths[name] = width
    return context.kept(widths)


class _Step:
    """From one permitted width to the next lower one."""

    def __init__(self, width: int, score: float) -> None:
        self.width, self.score = width, score


def _steps_down(context: AllocationContext, group: GroupState, scores: Sequence[float]) -> list[_Step]:
    choices = context.choices(group)
    steps, before = [], set(range(group.width))
    for width in reversed(choices[:-1]):
        after = set(group.strongest(width))
        gone = before - after
        steps.append(_Step(width, sum(scores[channel] for channel in gone) / len(gone)))
        before = after
    return steps
