"""One worker that counts a caller's requests by leases: `python -m tests.app.leases_for_tests`.

It waits for a line on its standard input, sends so many requests at once again and again, and says
how many have passed.

STORE    URL of the store
LIMIT    the limit, for example 600/minute
TIMES    how often
AT_ONCE  how many requests at once
"""

import asyncio
import os
import sys

from limits import parse

from app.errors import RateLimitedError
from app.leases import Leases
from app.limit_store import SCHEME, AwaitedStorage


async def passes(leases: Leases) -> bool:
    if leases.take("caller", "endpoint"):
        return True
    try:
        await leases.ask("caller", "endpoint")
    except RateLimitedError:
        return False
    return True


async def main() -> int:
    store = AwaitedStorage(SCHEME + os.environ["STORE"])
    leases = Leases(parse(os.environ["LIMIT"]), store)
    passed = 0
    for _ in range(int(os.environ["TIMES"])):
        at_once = [passes(leases) for _ in range(int(os.environ["AT_ONCE"]))]
        passed += sum(await asyncio.gather(*at_once))
    await store.close()
    return passed


if __name__ == "__main__":
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    sys.stdout.write(f"{asyncio.run(main())}\n")
