"""python -m bench [--quick] [--json] [--upstream-port PORT] [name=port,key,path,model ...]

What the gateway adds to a provider's answer, in one run. `make bench` runs it; README.md says how to read it.
"""

import argparse
import json
import os
import signal
import sys

from bench import machine, report
from bench.suite import FULL, QUICK, Size, Suite, machine_facts
from bench.world import Target, refuse_mute, world


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.splitlines()[2])
    parser.add_argument("--quick", action="store_true", help="one short round: is it the right order of magnitude?")
    parser.add_argument("--json", action="store_true", help="one JSON object, alone on standard output")
    parser.add_argument("--upstream-port", type=int, default=0, help="where the upstream listens; any port by default")
    parser.add_argument("targets", nargs="*", help="other gateways: name=port[,key[,path[,model]]]")
    return parser.parse_args()


def main(size: Size | None = None) -> None:
    """`size`: other than what the options say."""
    chosen = options()
    size = size or (QUICK if chosen.quick else FULL)
    for number in (signal.SIGTERM, signal.SIGINT):  # so that everything is stopped then, too
        signal.signal(number, lambda which, _frame: sys.exit(128 + which))
    try:
        others = [Target.parse(text) for text in chosen.targets]
        if others and not chosen.upstream_port:
            raise machine.Unfit("Say on which port those gateways expect their provider: UPSTREAM_PORT=9101")
        machine.refuse_unfit()
        machine.build()
        facts = machine_facts() | {"rounds": size.rounds, "not_pinned": not_pinned(others)}
        print("Starting PostgreSQL, upstream and gateway ...", file=sys.stderr, flush=True)
        with world(chosen.upstream_port) as made:
            made.facts.update(facts)
            for target in others:
                refuse_mute(target, made.upstream.port)
            results = Suite(made, others, size).run()
    except (machine.Unfit, ValueError, RuntimeError) as error:
        sys.exit(str(error))
    text = json.dumps(report.as_json(results), indent=1) if chosen.json else "\n".join(report.lines(results))
    print(text)


def not_pinned(targets: list[Target]) -> list[str]:
    """Those with a process that may run elsewhere than on the gateway's core."""
    return [
        target.name for target in targets if any(os.sched_getaffinity(pid) != {machine.GATEWAY} for pid in target.pids)
    ]


if __name__ == "__main__":
    main()
