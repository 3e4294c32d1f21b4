"""The card of the task."""
