"""The suites: tasks that are run together, one module each, found by name."""
