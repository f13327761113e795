"""pyinfra's command line has gevent patch the standard library as soon as it is imported.

Unit tests do without: with the patch every process takes several times as long to start, and the host program's tests could not
run beside the others, because gevent takes the ends of processes for itself.
"""

from __future__ import annotations

from gevent import monkey

monkey.patch_all = lambda: None
