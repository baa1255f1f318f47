from __future__ import annotations

import random

from budgetguard._core.line import Line, Ticket


def line_of(*tickets: Ticket) -> Line:
    line = Line()
    for ticket in tickets:
        line.join(ticket)
    return line


def test_first_come_is_first_served() -> None:
    tickets = [Ticket(0, number) for number in range(5)]
    line = line_of(*tickets)
    for ticket in tickets:
        assert line.head is ticket
        assert line.leave(ticket)
    assert line.head is None


def test_a_higher_priority_stands_before_a_lower_one_whenever_it_comes() -> None:
    first, late, urgent = Ticket(0, 1), Ticket(0, 3), Ticket(7, 2)
    line = line_of(first, late)
    line.join(urgent)
    assert line.head is urgent
    assert [line.place(ticket) for ticket in (urgent, first, late)] == [1, 2, 3]


def test_a_place_is_kept_by_number_so_who_comes_back_stands_where_it_stood() -> None:
    first, second = Ticket(0, 1), Ticket(0, 2)
    line = line_of(first, second)
    line.leave(first)
    again = Ticket(0, 1)
    line.join(again)
    assert line.head is again


def test_leaving_twice_or_without_having_joined_is_harmless() -> None:
    stranger, ticket = Ticket(0, 1), Ticket(0, 2)
    line = line_of(ticket)
    assert line.leave(stranger) is False
    assert (line.leave(ticket), line.leave(ticket)) == (True, False)
    assert len(line) == 0


def test_who_leaves_from_the_middle_is_not_counted_and_never_becomes_head() -> None:
    tickets = [Ticket(0, number) for number in range(4)]
    line = line_of(*tickets)
    line.leave(tickets[1])
    assert len(line) == 3
    assert line.place(tickets[3]) == 3
    line.leave(tickets[0])
    assert line.head is tickets[2]


def test_those_who_left_behind_a_head_that_stays_do_not_pile_up() -> None:
    head = Ticket(0, 0)
    line = line_of(head)
    for number in range(1, 10_000):
        ticket = Ticket(0, number)
        line.join(ticket)
        line.leave(ticket)
    assert line.head is head
    assert len(line._heap) < 200


def test_any_coming_and_going_keeps_the_order() -> None:
    rng = random.Random(7)
    line, inside = Line(), list[Ticket]()
    for number in range(2000):
        if inside and rng.random() < 0.45:
            line.leave(inside.pop(rng.randrange(len(inside))))
        else:
            inside.append(Ticket(rng.randint(-2, 2), number))
            line.join(inside[-1])
        assert len(line) == len(inside)
        assert line.head is (min(inside, key=lambda ticket: ticket.order) if inside else None)


def test_a_wake_up_is_kept_until_somebody_waits_for_it() -> None:
    class Signal:
        rung = 0

        def set(self) -> None:
            self.rung += 1

    ticket, signal = Ticket(), Signal()
    ticket.wake()
    assert ticket.woken
    ticket.signal = signal
    ticket.wake()
    assert signal.rung == 1


def test_lines_and_tickets_say_who_they_are() -> None:
    assert repr(Ticket(3, 7)) == "Ticket(priority=3, number=7)"
    assert repr(line_of(Ticket(0, 1), Ticket(0, 2))) == "Line(2 waiting)"
