"""What is dropped stays dropped."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys

import pytest

from edge.process import privileges
from edge.process.errors import NOT_PERMITTED, StartError

_CHILD = """
import os
from pathlib import Path
from edge.process import privileges
privileges.drop(privileges.identity({user!r}, ""))
try:
    os.setuid(0)
    print("root again")
except PermissionError:
    pass
status = Path("/proc/self/status").read_text()
fields = dict(line.split(":\\t", 1) for line in status.splitlines() if ":\\t" in line)
print(fields["Uid"].split(), fields["Groups"].split(), fields["NoNewPrivs"], os.access("/proc/self/mem", os.R_OK))
"""


def test_nobody_is_who_we_are() -> None:
    assert privileges.identity("", "") is None


def test_unknown_names_are_errors() -> None:
    with pytest.raises(StartError, match='no user "no-such-user"'):
        privileges.identity("no-such-user", "")
    with pytest.raises(StartError, match='no group "no-such-group"'):
        privileges.identity("", "no-such-group")


def test_dropping_to_another_user() -> None:
    if os.geteuid() != 0:
        with pytest.raises(StartError, match="needs a start as root") as caught:
            privileges.identity("nobody", "")
        assert caught.value.status == NOT_PERMITTED
        user = pwd.getpwuid(os.getuid()).pw_name
    else:
        user = "nobody"
    account = pwd.getpwnam(user)
    output = subprocess.run([sys.executable, "-c", _CHILD.format(user=user)], capture_output=True, text=True, check=True).stdout
    assert "root again" not in output
    assert output.startswith(str([str(account.pw_uid)] * 4))
    assert output.split()[-2] == "1"


def test_the_limit_on_descriptors_is_raised_to_the_hard_one() -> None:
    code = (
        "from resource import *; from edge.process import privileges\n"
        "hard = getrlimit(RLIMIT_NOFILE)[1]; setrlimit(RLIMIT_NOFILE, (64, hard))\n"
        "print(privileges.raise_descriptor_limit(), getrlimit(RLIMIT_NOFILE)[0])"
    )
    limits = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert limits[0] == limits[1]
    assert int(limits[0]) > 64
