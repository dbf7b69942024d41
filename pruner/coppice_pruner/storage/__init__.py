"""Where models come from and results go, whatever holds them."""

from coppice_pruner.storage.place import Place, open_place

__all__ = ["Place", "open_place"]
