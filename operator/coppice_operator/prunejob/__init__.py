"""PruneJob, the pure half: observation in, Plan out.

`plan.py` is the order of decisions. `variant.py` decides about one hardware class under way and `ended.py` about one
whose Job has ended, from what pods leave (`report.py`) and what keeps them from starting (`obstacle.py`); `standing.py`
says several classes in one sentence. `manifest.py` and `nodes.py` are the children. What does not belong here: caches,
queues and writes (the shell's), and how a rollout proceeds (rollout/).
"""
