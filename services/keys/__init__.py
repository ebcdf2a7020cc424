"""Tenants, API keys, quotas and the usage ledger: the one service with a database."""
