"""Callbacks, after Standard Webhooks 1.0: whoever waits for a job is told of its end, signed, until he has heard it."""
