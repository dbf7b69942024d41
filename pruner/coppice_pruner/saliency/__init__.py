"""How much each channel matters. Values in, values out: nothing here changes a model."""

from coppice_pruner.saliency.hessian import hessian_scores
from coppice_pruner.saliency.l2 import l2_scores
from coppice_pruner.saliency.sensitivity import Divergences
from coppice_pruner.saliency.taylor import taylor_scores

__all__ = ["Divergences", "hessian_scores", "l2_scores", "taylor_scores"]
