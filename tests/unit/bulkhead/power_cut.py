"""Cut a program at any step: by the power, or by a kill."""

from __future__ import annotations


class PowerCut(BaseException):
    """The program is no more."""


class Steps:
    """Count the changes of a fake host. Each may be the program's last."""

    def __init__(self) -> None:
        self.steps = 0
        self.last_step = 0  # 0: never cut

    def step(self) -> None:
        self.steps += 1
        if self.last_step and self.steps >= self.last_step:
            raise PowerCut
