"""What it costs to bring a model to a fleet, with the operator killed on the way, and to take a bad one back."""

from tests.bench.rollout.document import write
from tests.bench.rollout.run import bench

__all__ = ["bench", "write"]
