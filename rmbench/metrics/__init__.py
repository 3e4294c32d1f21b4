"""Pure numpy and scipy functions, one topic a module."""
