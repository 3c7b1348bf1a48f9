"""spark.sh's reader: read.py JARS_DIR TABLES FILE; one JSON array per statement on stdout."""

import glob
import json
import os
import sys
from pathlib import Path

from pyspark.sql import SparkSession

jars, tables, file = sys.argv[1:4]
builder = (
    SparkSession.builder.master("local[2]")
    .config("spark.jars", ",".join(glob.glob(f"{jars}/*.jar")))
    .config("spark.driver.bindAddress", "127.0.0.1")
    .config("spark.driver.host", "127.0.0.1")
    .config("spark.ui.enabled", "false")
    .config("spark.ui.showConsoleProgress", "false")
    .config("spark.sql.session.timeZone", "UTC")
    .config("spark.sql.extensions", "io.delta.sql.DeltaSparkSessionExtension")
    .config("spark.sql.catalog.spark_catalog", "org.apache.spark.sql.delta.catalog.DeltaCatalog")
)
if tables.startswith("s3a://"):
    builder = (
        builder.config("spark.hadoop.fs.s3a.endpoint", os.environ["AWS_ENDPOINT_URL"])
        .config("spark.hadoop.fs.s3a.access.key", os.environ["AWS_ACCESS_KEY_ID"])
        .config("spark.hadoop.fs.s3a.secret.key", os.environ["AWS_SECRET_ACCESS_KEY"])
        .config("spark.hadoop.fs.s3a.aws.credentials.provider", "org.apache.hadoop.fs.s3a.SimpleAWSCredentialsProvider")
        .config("spark.hadoop.fs.s3a.path.style.access", "true")
    )
spark = builder.getOrCreate()
spark.sparkContext.setLogLevel("ERROR")
for table in ("calls", "events", "recordings"):
    frame = spark.read.format("delta").load(f"{tables}/{table}")
    # Of calls and recordings the other tiers are parts of rows, and legs of other calls.
    frame = frame if table == "events" else frame.where("tier = 'final'")
    frame.createOrReplaceTempView(table)
for statement in Path(file).read_text().splitlines():
    if statement.strip():
        print(json.dumps([json.loads(row) for row in spark.sql(statement).toJSON().collect()]), flush=True)
