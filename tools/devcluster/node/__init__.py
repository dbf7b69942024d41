"""The process node: a kubelet's stand-in that runs pods as local processes. A fixture; see README.md here.

Belongs here: what a kubelet does as seen through the API. Does not belong here: anything a product may rely on.
"""
