"""Cut a program at any step: by the power, or by a kill."""

from __future__ import annotations

from collections.abc import Callable

# The power takes nothing with it that was written, or all that was not synced. A kill takes nothing, and the host goes on.
POWER_CUTS = ("power", "unsynced")
CUTS = (*POWER_CUTS, "kill")


class PowerCut(BaseException):
    """The program is no more."""


class Steps:
    """Count the changes of a fake host. Each may be the program's last."""

    def __init__(self) -> None:
        self.steps = 0
        self.last_step = 0  # 0: never cut
        self.at_step: Callable[[], object] = lambda: None

    def step(self) -> None:
        self.steps += 1
        self.refuse_dead()
        self.at_step()

    def refuse_dead(self) -> None:
        """Keep a program that was cut from doing anything more: neither the power nor a kill waits for what it would catch."""
        if self.last_step and self.steps >= self.last_step:
            raise PowerCut
