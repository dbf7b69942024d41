"""An inference server for Coppice bundles, speaking the Open Inference Protocol v2 over REST.

Belongs here: what one pod of a fleet does, from its environment to its last answer. Does not belong here:
anything about pruning (`coppice_pruner`) or about Kubernetes; the server knows a URI, a port and a signal.
"""
