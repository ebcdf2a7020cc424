"""`python -m services.ingest`."""

from services.ingest.app import app
from services.ingest.settings import Settings
from services.runtime.lifecycle import run

if __name__ == "__main__":
    run("ingest", Settings, app)
