"""Dense and pruned models in memory, and the architectures that come with Coppice."""

from coppice_pruner.models.architecture import ArchitectureRefusedError, build
from coppice_pruner.models.loaded import LoadedModel

__all__ = ["ArchitectureRefusedError", "LoadedModel", "build"]
