"""Grafana dashboards, generated; their pictures from real data; and the reference of every metric."""
