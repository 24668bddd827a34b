"""The archive: every event and every insight as Parquet on S3."""
