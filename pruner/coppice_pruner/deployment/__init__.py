"""A model as it would be deployed: norms folded, and run by what the fleet runs it with.

Folding and a better runtime save energy whether or not a model is pruned. Whoever compares a plain dense model with a
pruned one that has both counts for pruning what is not pruning's. So the dense and the pruned model are measured after
`folded` and in one `Runtime`, and what each of the two saves by itself is reported apart.

Belongs here: folding, the program a bundle ships, and what runs it. Does not belong here: how energy is compared
(measurement), and which weights become integers (quantization).
"""

from coppice_pruner.deployment.folding import folded
from coppice_pruner.deployment.program import onnx_of, program_of
from coppice_pruner.deployment.runtime import EAGER, Answer, Eager, Runtime, answering, runtime_of

__all__ = ["EAGER", "Answer", "Eager", "Runtime", "answering", "folded", "onnx_of", "program_of", "runtime_of"]
