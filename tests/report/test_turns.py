"""Turns: one at a time, urgent work first, and a turn that is not urgent gives way."""

from threading import Event, Thread

import pytest

from hf_paint.report.turns import Interrupted, Turns


def test_urgent_work_interrupts_and_goes_first():
    turns, order, waits = Turns(), [], Event()

    def work(name, *, urgent):
        with turns.one(urgent=urgent):
            turns.check()
            order.append(name)

    threads = [Thread(target=work, args=("later",), kwargs={"urgent": False})]
    threads.append(Thread(target=work, args=("urgent",), kwargs={"urgent": True}))

    def give_way():
        with turns.one(urgent=False):
            turns.check()  # nobody waits yet
            for thread in threads:
                thread.start()
            while True:
                waits.wait(0.001)
                turns.check()

    with pytest.raises(Interrupted):
        give_way()
    for thread in threads:
        thread.join(10)
    assert order == ["urgent", "later"]
