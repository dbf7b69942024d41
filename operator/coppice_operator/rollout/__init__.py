"""ModelRollout, the pure half: observation in, Plan out.

    due_queries(observation, now) -> queries -> ask() -> observation with answers -> plan(observation, now)

`plan.py` is the order of decisions; one module beside it for each of them. Only `prometheus.py` does I/O.
What does not belong here: caches, queues and writes (the shell's), and anything about PruneJobs.
"""
