"""The AWS side: API calls, identities, targets, databases.

In: an ``Identity`` and a request. Out: answers as our own types, or an ``AwsError``.
boto3 and botocore stay in here, and botocore's private names in
``botocore_internals.py``. May import ``config`` and ``base``, no sibling room.
"""
