"""Diagnoses of stores of pictures for operators. Only known words of an answer are shown."""

from __future__ import annotations

import errno
import re

from app.resilience.diagnosis import Diagnosis, describe_system_error, get_errno

_CREDENTIALS = {
    "s3": "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give the workload a role",
    "gs": "Set GOOGLE_APPLICATION_CREDENTIALS, or give the workload a service account",
    "az": "Set AZURE_STORAGE_ACCOUNT_KEY or AZURE_STORAGE_SAS_TOKEN, or give the workload a managed identity",
}
_PERMISSIONS = {
    "s3": "Grant s3:ListBucket on the bucket, s3:GetObject, s3:PutObject and s3:DeleteObject on its objects",
    "gs": "Grant roles/storage.objectUser on the bucket",
    "az": "Grant the role Storage Blob Data Contributor on the container",
}
_CREATE = "Create it, or correct the address"
_ANSWERS = (
    (r"169\.254\.169\.254|metadata\.google|169\.254\.170\.2|IMDS", "no_credentials", ""),
    (r"Account must be specified", "no_account", "Set AZURE_STORAGE_ACCOUNT_NAME"),
    (r"NoSuchBucket|ContainerNotFound|bucket does not exist", "no_bucket", _CREATE),
    (r"SignatureDoesNotMatch|InvalidAccessKeyId|AuthenticationFailed|status code: 401", "wrong_key", ""),
    (r"AccessDenied|Authorization(Failure|PermissionMismatch)|status code: 403", "denied", ""),
    (r"status code: 404", "no_bucket", _CREATE),
    (r"dns error|error sending request|connect", "unreachable", "Check network, region and endpoint"),
    (r"status code: (429|5\d\d)|SlowDown", "busy", "Wait, or ask the cloud's status page"),
)
_SYSTEM = {
    errno.ENOSPC: ("disk_full", "Make room on that disk, or lower FLASHGATE_PICTURES_QUOTA_MB"),
    errno.EDQUOT: ("disk_full", "Raise the user's quota of that disk"),
    errno.EACCES: ("denied", "Let the gateway's user write there"),
    errno.EPERM: ("denied", "Let the gateway's user write there"),
    errno.EROFS: ("denied", "Mount it writable, or choose another folder"),
    errno.ENOTDIR: ("no_folder", "Choose a folder; something on the way to it is a file"),
}


def diagnose(error: BaseException, address: str) -> Diagnosis:
    """Diagnose an error of a folder or a bucket.

    Args:
        error: The error of the operating system, or of the client library.
        address: The folder, or the bucket's address.
    """
    name = type(error).__qualname__
    number = get_errno(error) if isinstance(error, OSError) else None
    if number is not None and isinstance(error, OSError):
        reason, remedy = _SYSTEM.get(number, ("store_fails", "Check the disk"))
        return Diagnosis(reason, address, f"{name}: {describe_system_error(error)}", remedy)
    if isinstance(error, TimeoutError):
        return Diagnosis("no_answer", address, name, "Check network, region and endpoint")
    scheme = address.partition(":")[0]
    for pattern, reason, remedy in _ANSWERS:
        words = re.search(pattern, str(error))
        if words is not None:
            own = _PERMISSIONS if reason == "denied" else _CREDENTIALS
            return Diagnosis(reason, address, f"{name}: {words[0]}", remedy or own.get(scheme, ""))
    return Diagnosis("store_fails", address, name, "Check the store's log")
