"""Grafana's dashboards and provisioning, made from the tables of metrics and alerts. Pure."""
