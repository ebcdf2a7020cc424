"""What can go wrong with a stack, told to a person."""


class StackError(Exception):
    """A sentence that says what is wrong and what to do about it."""
