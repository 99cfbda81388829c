"""Stub."""


class DPTImageProcessor:
    @classmethod
    def from_pretrained(cls, folder: object) -> "DPTImageProcessor":
        return cls()
