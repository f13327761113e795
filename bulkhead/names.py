"""Names that the deploy and the program must agree on."""

from __future__ import annotations

GUARD = "docker-guard.service"
PRUNE_TIMER = "docker-prune.timer"
