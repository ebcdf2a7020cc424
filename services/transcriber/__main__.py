"""`python -m services.transcriber`."""

from services.runtime.lifecycle import run
from services.transcriber.app import transcriber
from services.transcriber.settings import TranscriberSettings

if __name__ == "__main__":
    run("transcriber", TranscriberSettings, transcriber)
