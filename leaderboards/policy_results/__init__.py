"""Policies that reward models made, and what others report of those reward models, as CSV; no code."""
