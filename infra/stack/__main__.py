"""`python -m infra.stack`: the operator's commands. Exit codes: 0 done, 1 said what is wrong, 2 wrong usage."""

import argparse
import asyncio
import os
import subprocess
import sys
from collections.abc import Sequence

from infra.stack import bucket, commands, pepper
from infra.stack.errors import StackError
from infra.stack.home import Home


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    home = Home.of(os.environ)
    try:
        match options.command:
            case "up" if options.detach:
                return commands.up_detached(home)
            case "up":
                return asyncio.run(commands.up(home, os.environ, show_logs=options.logs))
            case "down":
                return commands.down(home)
            case "status":
                return asyncio.run(commands.status(home, as_json=options.json))
            case "logs":
                return commands.logs(home, options.service, lines=options.lines, follow=options.follow)
            case "nats-grant":
                return commands.nats_grant(home, os.environ, options.tenant)
            case "drop-bind":
                return bucket.bind(home, os.environ, options.tenant, options.key)
            case "drop-key":
                return bucket.name_key(home, os.environ, options.tenant, options.key)
            case "drop-unbind":
                return bucket.unbind(home, os.environ, options.tenant)
            case "drop-list":
                return bucket.show(home, os.environ)
            case "pepper" if options.forget:
                return pepper.forget(home, os.environ, force=options.force)
            case "pepper":
                return pepper.renew(home)
            case _:
                command, environment = commands.inside(home, os.environ, options.service, options.arguments)
                return subprocess.call(command, env=environment)
    except StackError as error:
        print(f"desifre: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m infra.stack", description="The service on one machine.")
    actions = parser.add_subparsers(dest="command", required=True)
    up = actions.add_parser("up", help="start everything")
    up.add_argument("--detach", action="store_true", help="go on in the background")
    up.add_argument("--logs", action="store_true", help="show what every process writes")
    actions.add_parser("down", help="stop everything")
    status = actions.add_parser("status", help="show each process")
    status.add_argument("--json", action="store_true")
    logs = actions.add_parser("logs", help="show what a process wrote")
    logs.add_argument("service", nargs="?")
    logs.add_argument("-n", "--lines", type=int, default=50)
    logs.add_argument("-f", "--follow", action="store_true")
    grant = actions.add_parser("nats-grant", help="let the services of a tenant submit jobs over the bus")
    grant.add_argument("tenant")
    bind = actions.add_parser("drop-bind", help="let a tenant's own S3 clients in")
    bind.add_argument("tenant")
    bind.add_argument("--key", help="id of the key that pays")
    pays = actions.add_parser("drop-key", help="have another key pay, and leave the clients as they are")
    pays.add_argument("tenant")
    pays.add_argument("key")
    actions.add_parser("drop-unbind", help="let them in no more").add_argument("tenant")
    actions.add_parser("drop-list", help="show whose own S3 clients are let in, and who pays")
    peppers = actions.add_parser("pepper", help="make a new pepper of the keys")
    peppers.add_argument("--forget", action="store_true", help="take the one before it away")
    peppers.add_argument("--force", action="store_true", help="though keys end by it")
    inside = actions.add_parser("exec", help="run services.SERVICE.MODULE with that service's environment")
    inside.add_argument("service", help="for example keys-admin: services.keys.admin as keys")
    inside.add_argument("arguments", nargs=argparse.REMAINDER)
    return parser


if __name__ == "__main__":
    sys.exit(main())
