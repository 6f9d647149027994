"""Cohorts, pixels and views."""
