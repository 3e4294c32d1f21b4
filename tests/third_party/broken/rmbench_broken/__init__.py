"""A package by somebody else in which nothing works."""
