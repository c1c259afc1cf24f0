"""Serve a policy over a websocket, in openpi's protocol: to evaluate.py, to openpi's client, to robots elsewhere.

./isaaclab.sh -p scripts/serve.py --policy out/desk_bc
./isaaclab.sh -p scripts/evaluate.py --policy ws://localhost:8000 --twin out/desk/twin
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from phototwin.console import run_script


@dataclass(frozen=True)
class Args:
    """Command line of serve.py.

    Attributes:
        policy: Folder of a training.
        host: Address to listen at; 0.0.0.0 for every network of this machine: there is no password.
        port: Port to listen at; 0 takes a free one.
    """

    policy: Path
    host: str = "127.0.0.1"
    port: int = 8000


def main(args: Args) -> int:
    """Serve until interrupted; returns the exit status."""
    from phototwin.learn.policy import load_policy
    from phototwin.learn.serve import describe_policy, make_server
    from phototwin_tasks.evaluate.drivers import PolicyDriver

    policy, facts = load_policy(args.policy)
    metadata = describe_policy(facts)
    with make_server(lambda: PolicyDriver(policy, facts), metadata, args.host, args.port) as server:
        port = server.socket.getsockname()[1]
        sys.stdout.write(f"'{args.policy}' is served at ws://{args.host}:{port} until this is interrupted\n")
        sys.stdout.flush()
        server.serve_forever()
    return 0


if __name__ == "__main__":
    run_script(Args, main)
