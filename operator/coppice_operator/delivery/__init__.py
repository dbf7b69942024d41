"""Delivery through Git: a Change in, a commit on a branch out.

    rollout/git.py -> Change -> publisher -> commit (fetch, edit, commit, push) -> Outcome -> rollout/git.py

`change`, `message`, `component` and `values` are pure; `commit`, `remote`, `ssh` and `mergerequest` speak with servers
and block, so `publisher` calls them in threads. What does not belong here: when to change what (the rollout's), and
targets.
"""
