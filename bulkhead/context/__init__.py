"""`bulkhead context`: what a build sends to Docker, and what it need not."""
