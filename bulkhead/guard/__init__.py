"""Keep Docker's volume from filling: stop builds in time, bring back a Docker that a full volume has stopped."""
