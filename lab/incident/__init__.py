"""The incident, played again on two virtual machines: one as it was, one provisioned. `scripts/incident` runs it."""
