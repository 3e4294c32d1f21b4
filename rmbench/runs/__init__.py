"""What the commands and the Python API call: `evaluate` models, have policies `respond`, `score` and `select`."""
