"""The health check of our images, with the standard library alone: `python -m infra.containers.healthy PORT`."""

import sys
import urllib.request

TIMEOUT = 3.0


def main(port: str) -> int:
    """0 when the process on this port of the container says that it is ready."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=TIMEOUT) as answer:
            return 0 if answer.status == 200 else 1
    except OSError as error:
        print(error)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
