"""A task without a TASK."""
