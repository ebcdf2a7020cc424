"""What a tenant's own S3 credentials may do in the bucket `drop`, in the words of either store.

They read, write and remove below `in/`, read below `out/` and `done/`, and list their own prefix; nothing of anybody
else's, and nothing that the service wrote can they change.
"""

from typing import Any

from services.contracts.objects import DROP_BUCKET

WRITTEN, READ = ("in",), ("out", "done")


def access_key(tenant: str) -> str:
    """The access key of a tenant's own clients; what is secret is the secret key."""
    return f"drop{tenant}"


def actions(tenant: str) -> list[str]:
    """As SeaweedFS has them: an action, a bucket, and a prefix of keys."""
    prefix = f"{DROP_BUCKET}/{tenant}"
    written = [f"{action}:{prefix}/{folder}/*" for folder in WRITTEN for action in ("Read", "Write")]
    return [*written, *(f"Read:{prefix}/{folder}/*" for folder in READ), f"List:{prefix}/*"]


def policy(tenant: str) -> dict[str, Any]:
    """As MinIO and AWS have them: a policy document."""
    bucket = f"arn:aws:s3:::{DROP_BUCKET}"

    def below(folders: tuple[str, ...]) -> list[str]:
        return [f"{bucket}/{tenant}/{folder}/*" for folder in folders]

    uploads = ["s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"]
    return {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Action": ["s3:GetObject"], "Resource": below(WRITTEN + READ)},
            {"Effect": "Allow", "Action": uploads, "Resource": below(WRITTEN)},
            {
                "Effect": "Allow",
                "Action": ["s3:ListBucket"],
                "Resource": [bucket],
                "Condition": {"StringLike": {"s3:prefix": [f"{tenant}/*"]}},
            },
            {"Effect": "Allow", "Action": ["s3:GetBucketLocation"], "Resource": [bucket]},
        ],
    }
