"""The trainer: runs on a bare GPU machine from one Parquet file and the source tree."""
