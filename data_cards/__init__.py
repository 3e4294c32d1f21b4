"""Data set cards, one Markdown file each."""
