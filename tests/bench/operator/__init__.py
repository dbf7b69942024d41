"""How fast PruneJobs settle under Coppice's operator and under a reference in Go, and what a restart costs."""

from tests.bench.operator.document import write
from tests.bench.operator.sizes import bench

__all__ = ["bench", "write"]
