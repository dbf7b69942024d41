"""The workflows that other people's machines run."""
