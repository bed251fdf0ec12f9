"""Run something in a forked process: the imports are there already, and whatever happens to it does not happen here."""
import contextlib
import os
import signal
import sys
import time
import traceback

import psutil


def fork(call, log):
    "Start `call` in a child whose output goes to a file; its process id. A raised error ends in a traceback there"
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        signal.setitimer(signal.ITIMER_REAL, 0)
        os.setpgid(0, 0)
        with open(log, "wb", buffering=0) as out:
            os.dup2(out.fileno(), 1)
            os.dup2(out.fileno(), 2)
        code = call()
    except SystemExit as e:
        code = e.code if isinstance(e.code, int) else 0 if e.code is None else 1
    except BaseException:
        traceback.print_exc()
    finally:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally: # whatever happens, this child must not go on in its parent's place
            os._exit(code if isinstance(code, int) else 0)


def wait(pid, seconds):
    "Wait for a child; its exit code (negative: the signal that ended it), or None if it had to be killed after a time"
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(.005)
    below = psutil.Process(pid).children(recursive=True) # torchrun gives its processes sessions of their own
    kill(pid, signal.SIGKILL)
    for process in below:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    os.waitpid(pid, 0)
    return None


def kill(pid, number):
    "Send a signal to a child and all of its own"
    for send in (os.killpg, os.kill): # the group may not exist yet
        try:
            send(pid, number)
            return
        except ProcessLookupError:
            continue
