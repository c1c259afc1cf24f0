"""Ask NVIDIA's asset validator about a stage."""

from __future__ import annotations

import logging
from pathlib import Path

from phototwin.errors import InputError, TwinError


def validate_stage(path: Path) -> list[str]:
    """What the asset validator holds against a USD file: one sentence for each failure and error, none where it passes.

    Warnings do not count, as they do not for the validator's own exit status.

    Raises:
        InputError: There is no such file.
        TwinError: The package ``omniverse-asset-validator`` is not installed.
    """
    if not path.is_file():
        raise InputError(f"'{path}' does not exist, so it cannot be validated.")
    logging.getLogger("omni.asset_validator").setLevel(logging.WARNING)
    try:
        from omni.asset_validator import IssueSeverity, ValidationEngine
    except ImportError as error:
        raise TwinError("Validation needs the package 'omniverse-asset-validator': install it.") from error
    bad = (IssueSeverity.FAILURE, IssueSeverity.ERROR)
    issues = [issue for issue in ValidationEngine().validate(str(path)) if issue.severity in bad]
    return [
        f"{issue.rule.__name__ if issue.rule else 'error'}: {issue.message} {issue.at.as_str() if issue.at else ''}".strip()
        for issue in issues
    ]
