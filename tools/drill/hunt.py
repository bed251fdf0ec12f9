"""What the hunts share: counting what is found, a limit of time for each case, damaging bytes."""
import signal
from dataclasses import dataclass, field

from simpool.core import UserError

KINDS = ("silent wrong result", "traceback", "hang", "lost result")


class Hang(BaseException):
    "A case took longer than it may; no `except Exception` can swallow it"


def stop_waiting(*_):
    raise Hang


@dataclass
class Tally:
    "Cases tried, refused in one sentence, and found to be wrong"
    name: str # of the hunt
    cases: int = 0
    refused: int = 0
    found: list = field(default_factory=list) # (kind, case, words)
    words: str = "" # what else to say of it

    def note(self, kind, case, words):
        "Count a finding, and keep its first words"
        self.found.append((kind, case, str(words)[:300]))

    def case(self, name, call, seconds=30):
        "Try one case: `call` returns what is wrong with its result, or nothing; a UserError of two lines is a refusal"
        self.cases += 1
        signal.signal(signal.SIGALRM, stop_waiting)
        signal.setitimer(signal.ITIMER_REAL, seconds)
        try:
            wrong = call()
            if wrong:
                self.note("silent wrong result", name, wrong)
        except Hang:
            self.note("hang", name, f"longer than {seconds} s")
        except (UserError, SystemExit) as e:
            self.refused += 1
            if len(str(e).strip().splitlines()) > 2:
                self.note("traceback", name, f"a refusal of many lines: {e}")
        except Exception as e:
            self.note("traceback", name, f"{type(e).__name__}: {e}")
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)


def damage(data, rng):
    "Damage bytes as disks, networks and interrupted copies do; also says how"
    data, at, size = bytearray(data), int(rng.integers(len(data))), int(rng.integers(1, 65))
    how = ("bit", "zeros", "end", "noise", "insert", "remove", "swap", "head")[rng.integers(8)]
    if how == "bit":
        data[at] ^= 1 << int(rng.integers(8))
    elif how == "zeros":
        data[at:at+size] = bytes(len(data[at:at+size]))
    elif how == "end":
        del data[at:]
    elif how == "noise":
        data[at:at+size] = rng.bytes(len(data[at:at+size]))
    elif how == "insert":
        data[at:at] = rng.bytes(size)
    elif how == "remove":
        del data[at:at+size]
    elif how == "swap":
        data = data[at:] + data[:at]
    else:
        data[int(rng.integers(min(64, len(data))))] = int(rng.integers(256))
    return bytes(data), how
