"""A real Prometheus of a test's own, and what it scrapes."""
