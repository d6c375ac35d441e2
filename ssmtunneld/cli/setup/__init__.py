"""Making and changing a configuration file: ``init``, ``add``, ``remove``, ``import``.

In: answers and options of a person, resources that ``discover`` found. Out: the text of
a file in which only what is meant has changed.
"""
