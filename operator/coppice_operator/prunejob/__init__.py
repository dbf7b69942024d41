"""PruneJob, the pure half: observation in, Plan out.

`plan.py` is the order of decisions, `variant.py` one hardware class, `manifest.py` the children. What does not belong
here: caches, queues and writes (the shell's), and how a rollout proceeds (rollout/).
"""
