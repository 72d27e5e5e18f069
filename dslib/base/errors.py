"""What a reader did wrong, said in one line."""


class UserError(ValueError):
    """A mistake the reader can mend: one line that names the file or option and the mend."""


def first_line(error: Exception) -> str:
    """The first line of an error's text, short enough for a message."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
