"""A package by somebody else: a family of reward models, a policy and a task."""
