"""The tasks: one module or small package each, found by name."""
