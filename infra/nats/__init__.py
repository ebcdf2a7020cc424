"""The embedded message bus: what nats-server is told, and who may say what on it."""
