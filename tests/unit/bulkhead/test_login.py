"""Which processes belong to a login."""

from __future__ import annotations

import os
import signal
import subprocess

import pytest

from bulkhead import procfs
from bulkhead.login import Login

from ..cases import LOGINS, LoginCase
from ..fake_proc import FakeProc
from ..processes import orphan


@pytest.mark.parametrize("case", LOGINS, ids=str)
def test_whether_a_process_belongs_to_our_login(proc: FakeProc, case: LoginCase) -> None:
    case.fill(proc)
    login = Login.parse(str(Login.of(case.own)))
    assert login.includes(case.other) == case.is_own


def test_own_login_has_its_own_processes_and_no_others() -> None:
    assert Login.parse(str(Login.own())).includes(os.getpid())
    # In a session of systemd's, an orphan of ours belongs to our login too.
    login = Login.own()._replace(anchor=os.getpid(), cgroup="")
    child = subprocess.Popen(["sleep", "100"])
    stranger = orphan("sleep", "100")
    try:
        assert login.includes(os.getpid())
        assert login.includes(child.pid)
        assert login.includes([*procfs.ancestors(os.getpid())][-1])
        assert not login.includes(stranger)
    finally:
        child.kill()
        child.wait()
        os.kill(stranger, signal.SIGKILL)
