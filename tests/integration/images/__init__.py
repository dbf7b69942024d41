"""The container images, built and run."""
