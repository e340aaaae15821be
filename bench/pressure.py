"""More than one process can do: many times its clients, and one tenant that floods while another asks as ever."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from bench.shots import PLAIN, Load, Shot, measured, request, shoot
from bench.world import World, serving

PLACES = 32  # requests under way that keep one core busy
TIMES = (1, 2, 5, 10)
SHARE, FLOOD = 1, 50  # connections of the quiet tenant, and of the one that floods
# An answer that takes as long as a short one of a quick model: what a tenant notices is this and what comes on top.
SLOW = replace(PLAIN, say=" (after=100)")

Keep = Callable[..., None]


class Pressure:
    """The stages `overload` and `flood`. Clients that are sent away come back when they were told to."""

    def __init__(self, made: World, seconds: float, keep: Keep) -> None:
        self.made, self.seconds, self.keep = made, seconds, keep

    def run(self) -> None:
        self._overload()
        self._flood()

    def _overload(self) -> None:
        """As many clients as there are places, and many times more; the places are as many as one core can serve."""
        with serving(self.made.books, workers=1, MAX_IN_FLIGHT=PLACES, MAX_IN_FLIGHT_PER_TENANT=PLACES * 2) as port:
            for times in TIMES:
                target = replace(self.made.gateway, name=f"{times} x {PLACES} clients", port=port)
                load = Load(PLACES * times, self.seconds, 2 * self.seconds, obeys=True)
                self._keep("overload", target.name, shoot(target, [request(target, PLAIN)], load, self.made.folder))

    def _flood(self) -> None:
        """The quiet tenant alone, then beside one with fifty times its connections."""
        quiet = replace(self.made.gateway, name="quiet, alone")
        load = Load(SHARE, self.seconds / 4, 2 * self.seconds, obeys=True)
        self._keep("flood", quiet.name, shoot(quiet, [request(quiet, SLOW)], load, self.made.folder))
        noisy = replace(self.made.gateway, name="the flood", key=self.made.flooder)
        beside = replace(quiet, name="quiet, flooded")
        much = Load(FLOOD * SHARE, self.seconds / 4, 3 * self.seconds, obeys=True)
        with ThreadPoolExecutor(1) as other:
            flood = other.submit(measured, noisy, [request(noisy, PLAIN)], much, self.made.folder)
            load = replace(load, warm_s=self.seconds / 2)
            self._keep("flood", beside.name, measured(beside, [request(beside, SLOW)], load, self.made.folder))
            self._keep("flood", noisy.name, flood.result())

    def _keep(self, stage: str, name: str, shot: Shot) -> None:
        self.keep(stage, replace(self.made.gateway, name=name), shot, f"{shot.shed:,} sent away")
