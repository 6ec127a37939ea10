"""A scheduler, or an executor, until the process is ended.

    python node.py scheduler
    python node.py executor HOST

An executor has the ports 50051 and 50052 of its host, because Ballista's package for Python lets the
second not be chosen; it takes the scheduler to be at port 50050 there.
"""

import logging
import sys

import ballista


def main(kind, host="0.0.0.0"):
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    if kind == "scheduler":
        node = ballista.BallistaScheduler(host, 50050)
    else:
        node = ballista.BallistaExecutor(50051, host, host, 50050, 1)
    node.start()
    node.wait_for_termination()


if __name__ == "__main__":
    main(*sys.argv[1:])
