"""Tables that a command printed to a file or a pipe."""


def printed_rows(text):
    """Return the cells of every line of the Markdown tables in a text, headers included and without the rules."""
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("| ")]
    return [row for row in rows if set("".join(row)) - set("-:")]
