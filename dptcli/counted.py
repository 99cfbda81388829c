"""Numbers with what they count, as one says them: 1 image, 2 images."""


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """Return e.g. "1 image", "0 images"; plural: where it is not the noun and an s."""
    return f"{number} {noun if number == 1 else plural or f'{noun}s'}"
