"""The signed metadata of channels.

`channels` says what they offer, `documents` how that stands in TUF, `repository` changes it in one transaction.
"""
