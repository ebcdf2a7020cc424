"""`python -m services.keys`."""

from services.keys.app import app
from services.keys.settings import KeysSettings
from services.runtime.lifecycle import run

if __name__ == "__main__":
    run("keys", KeysSettings, app)
