"""A benchmark's prompts in the words of methods whose prompts name a subject by a word of their own."""

from __future__ import annotations

from collections.abc import Sequence

from ..prompt import named_by
from ..shown import shown


def in_words(prompt: str, names: Sequence[str], placeholders: Sequence[str]) -> str:
    """A prompt with each subject's placeholder in the place of its name: "a cat on a chair" -> "a S on a Y". Of two subjects of one name,
    the first has its first occurrence. Raises ValueError for more subjects than placeholders, and for a prompt that does not say a name.
    """
    if len(names) > len(placeholders):
        raise ValueError(f"A prompt has {len(names)} subjects; this method is measured with at most {len(placeholders)}.")
    text = prompt
    for number, (name, placeholder) in enumerate(zip(names, placeholders, strict=False)):
        again = name in names[number + 1 :]
        found = named_by(text, [name], placeholder, most=1 if again else 0)
        if found is None:
            raise ValueError(
                f'The prompt "{shown(prompt, 120)}" does not say "{shown(name, 60)}", in whose place the subject\'s word belongs. Correct '
                "the benchmark's class or prompt."
            )
        text = found
    return text
