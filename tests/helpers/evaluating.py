"""The refusal of the evaluate command."""

from tests.conftest import Printed, messages


def refusal(printed: Printed) -> str:
    assert (printed.status, printed.out) == (2, "")
    [line] = messages(printed.err)
    assert line.startswith("error: ")
    assert line.isprintable()
    return line
