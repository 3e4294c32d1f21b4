"""The kinds of task. A task is a declaration of the few things that are its own; its kind does the rest.

A kind owns what is asked of a model (`questions`, and `due` of what records hold) and what becomes of the answers
(`outcome`). Both see labels; a `Request` carries none. `base` has the protocol and what the kinds share, each other
module one kind.
"""
