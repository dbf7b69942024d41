"""What a model is for: the loss it learns by, and the quality it is judged by.

Belongs here: loss, correctness and perplexity of outputs. Does not belong here: training (`training`) and data
(`data`), which know tasks but are not known here.
"""

from coppice_pruner.tasks.task import CAUSAL_LANGUAGE_MODELING, IMAGE_CLASSIFICATION, TASKS, TEXT_CLASSIFICATION, Task

__all__ = ["CAUSAL_LANGUAGE_MODELING", "IMAGE_CLASSIFICATION", "TASKS", "TEXT_CLASSIFICATION", "Task"]
