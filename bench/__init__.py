"""Measurements of the whole service against bare scripts: `python -m bench --help`, bench/README.md."""
