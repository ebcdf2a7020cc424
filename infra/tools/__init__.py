"""Checks of this repository that no tool brings."""
