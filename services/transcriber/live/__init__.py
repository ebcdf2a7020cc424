"""Live speech: sessions are claimed by lease, heard step by step, and become jobs like any other."""
