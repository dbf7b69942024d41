"""What docs/ takes from the code: `python -m reference` writes docs/reference/, `--check` compares."""
