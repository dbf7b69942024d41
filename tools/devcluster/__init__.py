"""A real Kubernetes control plane for laptops and CI: a development fixture, never part of the product.

Belongs here: finding or building the programs (`binaries`), their arguments (`components`), keeping them
alive and ending them with their owner (`supervisor`), and the handle that tests and the demo hold
(`cluster`). Nothing under api/, operator/ or pruner/ may know of it.
"""

from devcluster.cluster import Cluster, ClusterError, ClusterOptions

__all__ = ["Cluster", "ClusterError", "ClusterOptions"]
