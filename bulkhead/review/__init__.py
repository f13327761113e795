"""`bulkhead review`: what makes an image large, and what to write instead."""
