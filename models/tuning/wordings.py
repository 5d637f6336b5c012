"""Wordings of our own, in which the items of data sets that have none are asked for."""

from __future__ import annotations

POEM = (
    'Write a poem called "{title}".',
    "Write a poem with the title {title}.",
    "Compose a poem: {title}.",
    "I would like to read a poem named {title}. Write it.",
    'Write {count} lines of verse under the title "{title}".',
    "Please write me a poem about this: {title}",
)
"""Of a poem, by its title and its number of lines."""

JOKE = (
    "Do you know a joke?",
    "Tell a joke about {tag}.",
    "Make me laugh.",
    "Say something funny about {tag}.",
    "I need a short joke.",
    "Write a one-line joke.",
    "Give me a joke on the subject of {tag}.",
    "Cheer me up with a joke.",
    "Tell me something funny.",
    "Write a funny sentence about {tag}.",
)
"""Of a joke, some by its subject."""

CREAK = (
    ("Is this statement true or false?", "true", "false"),
    ("True or false?", "true", "false"),
    ("Say whether the following claim is true or false.", "true", "false"),
    ("Decide if the sentence is true. Answer true or false.", "true", "false"),
    ("Is this correct? Answer yes or no.", "yes", "no"),
    ("Reply with one word, yes or no: is the sentence true?", "yes", "no"),
    ("Label the statement as right or wrong.", "right", "wrong"),
    ("Fact or fiction?", "fact", "fiction"),
    ("Write T if the statement is true and F if it is not.", "T", "F"),
    ("Answer A if the sentence is true and B if it is not.", "A", "B"),
    ("Does this make sense? Choose one: sense, nonsense.", "sense", "nonsense"),
    ("Which word fits the statement, accurate or inaccurate?", "accurate", "inaccurate"),
)
"""Of a claim, each with the labels of a true and of a false one."""
