"""Makes the bucket of a store address, if it is not there: `python -m deployments.create_bucket s3://bucket/prefix`.

For the compose file's own S3 service; a bucket in a cloud is better made by whoever sets its rights and lifetime. Endpoint
and credentials come from the AWS environment, as for the store itself.
"""

from __future__ import annotations

import sys

from selfdev_core.store.location import parse_bucket

_OURS = ("BucketAlreadyOwnedByYou", "BucketAlreadyExists")


def create_bucket(address: str) -> bool:
    """Whether it had to be made. Raises: ValueError when the address is no S3 store; whatever the service refuses."""
    from botocore.exceptions import ClientError
    from s3fs import S3FileSystem

    bucket = parse_bucket(address).name
    service = S3FileSystem(anon=False, use_listings_cache=False, skip_instance_cache=True)
    if bucket in {one["Name"] for one in service.call_s3("list_buckets")["Buckets"]}:
        return False
    try:
        service.call_s3("create_bucket", Bucket=bucket)
    except FileExistsError:
        return False
    except ClientError as error:
        if error.response["Error"]["Code"] in _OURS:  # another was faster
            return False
        raise
    return True


if __name__ == "__main__":
    made = create_bucket(sys.argv[1])
    print(f"{sys.argv[1]}: bucket {'made' if made else 'is there'}")
