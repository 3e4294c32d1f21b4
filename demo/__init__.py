"""The demo reward model: its checkpoint, its card, and the script that trains it."""
