"""The embedded object store: how SeaweedFS is started, with one identity for each service."""
