"""Errors of image making.

SplitmergeError
└── OrchestratorError
    └── ImageError      the image cannot be made, or is not there
"""

from __future__ import annotations

from orchestrator.errors import OrchestratorError


class ImageError(OrchestratorError):
    """An image cannot be made, or is not there. ``where`` names the part, ``remedy`` says what to do."""
