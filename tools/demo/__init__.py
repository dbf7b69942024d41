"""`make demo`: a real model from `kubectl apply` to a cooler fleet, on this machine or on a cluster of yours.

Belongs here: showing the path, and judging at its end whether it was what was promised. Does not belong here: any step
of the path itself; the demo uses kubectl and the programs as a person would.
"""
