"""Other clusters, which a rollout's targets name by a Secret with a kubeconfig.

    Secret -> kubeconfig: Connection -> remote: lists and watches -> registry: one a Secret, while it is needed

What does not belong here: decisions about targets (`rollout`), and the cluster that the operator itself works in
(Kopf's watches, `lister.py`).
"""
