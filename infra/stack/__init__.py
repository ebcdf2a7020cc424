"""The embedded stack: every process of the service on one machine, without containers."""

from infra.stack.errors import StackError
from infra.stack.stack import Stack

__all__ = ["Stack", "StackError"]
