"""The commands, by who gives them."""
