"""Run as an agent by 'helm test': the gateway answers, and nothing else can be reached.

Arguments: the gateway's proxy address, then the addresses that must not be reached, each host:port.
Exit code 0 when the agent cannot escape, 1 when it can or when the gateway does not answer.
"""

import socket
import sys


def reach(address: str, seconds: float) -> str:
    """ "" when a connection was made, or else why not."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), seconds).close()
    except OSError as error:
        return str(error) or type(error).__name__
    return ""


gateway, *forbidden = sys.argv[1:]
failed = False
# First, and with patience: an agent that reaches nothing at all would prove nothing.
why = reach(gateway, 20)
print(f"gateway {gateway}: {why or 'reached'}")
failed |= bool(why)
for address in forbidden:
    why = reach(address, 5)
    print(f"{address}: {'cannot be reached: ' + why if why else 'REACHED, THIS IS A WAY OUT'}")
    failed |= not why
if not forbidden:
    print("nothing was tried, so nothing is proven")
    failed = True
sys.exit(failed)
