"""`python -m devcluster.node`: one node, until SIGTERM."""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys
from pathlib import Path

from devcluster.node.node import NodeOptions, serve
from devcluster.node.pod import Machine


def main(arguments: list[str]) -> int:
    """Parse the arguments and run."""
    parser = argparse.ArgumentParser(prog="python -m devcluster.node", description=__doc__)
    parser.add_argument("--kubeconfig", type=Path, required=True)
    parser.add_argument("--directory", type=Path, required=True, help="pods/ and volumes/ go there")
    parser.add_argument("--name", default="node-0")
    parser.add_argument("--cpus", type=int, default=8)
    parser.add_argument("--gpus", type=int, default=2, help="nvidia.com/gpu to advertise; no GPU is needed")
    parser.add_argument("--python-path", type=Path, action="append", default=[], help="PYTHONPATH of containers")
    parser.add_argument("--env", action="append", default=[], metavar="NAME=VALUE", help="as an image's ENV")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    environment = dict(item.partition("=")[::2] for item in options.env)
    machine = Machine(options.directory / "pods", tuple(options.python_path), environment)
    node = NodeOptions(
        name=options.name, cpus=options.cpus, gpus=options.gpus, directory=options.directory, machine=machine
    )

    async def run() -> None:
        ended = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, ended.set)
        await serve(options.kubeconfig, node, ended)

    asyncio.run(run())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
