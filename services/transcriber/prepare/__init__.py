"""A recording becomes parts: decoded in a sandbox, searched for voice, cut at silences."""
