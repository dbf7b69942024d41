"""On a real NVIDIA GPU: its energy counter, a model pruned by measured joules beside Torch-Pruning, and predictions."""
