"""The words of the command line, before they are parsed."""

import re
from collections.abc import Sequence

# What someone who means a size may type, wrong forms too: it is refused as a size by the parser of
# sizes and not taken for a path.
_LIKE_A_SIZE = re.compile(
    r"original|model|auto|[\d.]+(\s*[x×*,:]\s*[\d.]*)?\s*(px)?", re.IGNORECASE
)
# What these mean without a value, which the parser cannot leave out.
_BARE = {"--target-size": "original", "--tile": "auto", "--watch": "2"}


def normalize_argv(args: Sequence[str]) -> list[str]:
    """Give --target-size, --tile and --watch their values where they are bare.

    An option is bare at the end of the line, before another option, and before a word that is no
    size: `--target-size photo.jpg` means original, and photo.jpg stays an input. What follows `--`
    is left alone.
    """
    normal: list[str] = []
    for index, word in enumerate(args):
        if word == "--":
            return normal + list(args[index:])
        normal.append(word)
        following = args[index + 1] if index + 1 < len(args) else ""
        if word in _BARE and not _LIKE_A_SIZE.fullmatch(following):
            normal.append(_BARE[word])
    return normal
