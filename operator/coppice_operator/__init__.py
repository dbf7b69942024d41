"""The control plane half: watches PruneJobs and ModelRollouts, runs Jobs, ships models.

Belongs here: observing the cluster, planning (pure), applying. Does not belong here: torch, a meter, a
model, or any fetch of a URI a user wrote.
"""
