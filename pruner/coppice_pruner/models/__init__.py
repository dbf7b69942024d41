"""Dense and pruned models in memory, and the architectures that come with Coppice.

`models.load` reads the model of a spec; it stands above `bundle`, so it is not imported here.
"""

from coppice_pruner.models.architecture import ArchitectureRefusedError, build
from coppice_pruner.models.loaded import LoadedModel

__all__ = ["ArchitectureRefusedError", "LoadedModel", "build"]
