"""Ends with one line, before anything is installed, where TensorFlow 2.21 has no package for this Python or this machine.

`make setup` runs it with the Python that it was given, which may be an old one: keep to what Python 3.6 knows.
"""

import platform
import sys


def refusal(version, system, machine):
    """Why TensorFlow cannot be installed, and what to do; "" if it can. As sys.version_info, sys.platform and platform.machine() say."""
    if not (3, 11) <= tuple(version[:2]) <= (3, 13):
        found = ".".join(map(str, version[:2]))
        return f"error: Python 3.11, 3.12 or 3.13 is needed, and this is {found}; install one and name it: make setup PYTHON=python3.13"
    if system == "darwin" and machine == "x86_64":
        return "error: TensorFlow has no package for Macs with an Intel processor; use Linux in a virtual machine, or Google Colab"
    return ""


if __name__ == "__main__":
    sys.exit(refusal(sys.version_info, sys.platform, platform.machine()) or None)
