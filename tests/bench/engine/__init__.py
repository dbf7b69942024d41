"""Energy saved at an accuracy budget: our modes, the paper's rows and Torch-Pruning's settings, under one protocol.

`cases` holds the models and trains their dense forms, `ours` and `peers` prune, `rounds` runs, `measured` compares,
`plateau` asks how much of that is luck, `__main__` writes build/bench/engine.json, and `document` turns that into
docs/benchmarks.
"""
