"""Reward model families: `base` has the protocols, each other module loads one family."""
