"""``checks.mine``: the reader's function where it is right, else the library's; one verb for all chapters."""

import sys

from .common import guarded
from .exercises import CHAPTER_OF, check_of, reference_of, unknown
from .student_file import keep, stored
from .travel import is_stub
from .typical import TYPICAL


def mine(*names: str):
    """The functions of exercises by name, one or a tuple: the reader's where its check passes, else the library's.

    A function of that name in the notebook is checked, and kept in ``my_domainstudio.py`` if it is right; else that file is
    asked for one which passes. What is given is said in a line. The reader's is watched (:func:`guarded`).
    """
    if strange := [name for name in names if name not in CHAPTER_OF]:
        raise ValueError(unknown(strange[0]))
    around = sys._getframe(1).f_globals
    given, from_file, earlier, not_there = [], [], [], []
    for name in names:
        reference, here = reference_of(name), around.get(name)
        here = None if getattr(here, "from_file", False) else getattr(here, "student", here)
        fn = None if here is None or here is reference else of_notebook(name, here)
        read = fn is None
        if fn is None:
            fn, problem = stored(name)
            if problem:
                print(f"✗ {problem}")
            if fn is None and here is reference:
                print(f"→ {name} is the library's already: to have yours checked, run the cell that defines it (chapter "
                      f"{CHAPTER_OF[name]}), then this one")
            wrong = not (here is None or here is reference or is_stub(here))
            (not_there if fn is None else earlier if wrong else from_file).append(name)
        given.append(reference if fn is None else guarded(fn, reference, read))
    told = [f"yours: {', '.join(from_file)}"] * bool(from_file)
    told += [f"your earlier version, from my_domainstudio.py: {', '.join(earlier)}"] * bool(earlier)
    told += [f"the library's: {', '.join(not_there)}"] * bool(not_there)
    if told:
        print(f"→ {'; '.join(told)}")
    return given[0] if len(given) == 1 else tuple(given)


def of_notebook(name: str, fn):
    """A function of the notebook if its check passes, else None; says so, and shows what a check says where nothing is written."""
    if not callable(fn):
        print(f"✗ {name}: that name holds a {type(fn).__name__} here, no function; run the cell that defines it again")
        return None
    if is_stub(fn):
        print(f"○ {name}: not written yet. What its check says of a right answer and of a typical slip:")
        check_of(name)(reference_of(name))
        check_of(name)(TYPICAL[name])
        return None
    if not check_of(name)(fn):
        return None
    print(f"→ your {name} {keep(name, fn)}")
    return fn
