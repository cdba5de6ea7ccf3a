"""Something to look at while a step takes longer than two seconds; nothing for a shorter one."""

import sys
import threading
import time
from contextlib import contextmanager

QUIET = 2.0  # seconds before a step is announced
LINE_EVERY = 30.0  # seconds between lines where stderr is no terminal


@contextmanager
def step(what: str, stream=None):
    """Announce `what` on stderr once it has taken two seconds, with a running clock on a terminal.

    The solvers work in a few large steps, so the clock counts time, not a share of the work.
    """
    stream = sys.stderr if stream is None else stream
    done = threading.Event()
    watcher = threading.Thread(target=_watch, args=(what, stream, done, time.monotonic()), daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()


def _watch(what, stream, done, start):
    if done.wait(QUIET):
        return
    if not stream.isatty():
        print(f"{what} ...", file=stream, flush=True)
        while not done.wait(LINE_EVERY):
            print(f"{what} ... {time.monotonic() - start:.0f} s", file=stream, flush=True)
        return
    from tqdm import tqdm

    bar = tqdm(desc=what, bar_format="{desc} ... {elapsed}", file=stream, leave=False, initial=0)
    bar.start_t -= time.monotonic() - start
    while not done.wait(0.5):
        bar.refresh()
    bar.close()
