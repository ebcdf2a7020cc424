"""The shared language of the services: ids, messages, object keys, subjects and error codes.

Pure data and pure functions. Nothing here reads a clock, a file or a network unless it is handed one.
"""
