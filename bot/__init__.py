"""The bot: conversation, channels, storage and the service that holds them together. Stands above the other two."""


class FrontdeskError(Exception):
    """What a person can act on: one line with the file or value and the cure. Anything else that escapes is a bug."""
