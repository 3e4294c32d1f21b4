"""Policies: what writes the responses. `base` has the protocol, each other module one kind."""
