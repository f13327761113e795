"""Go through a checklist before a build or a deploy."""
