"""Options of Beam, of Flink and of Spark pass; all others are refused."""

import pytest

from ctr_tf.errors import UserError
from pipelines.listwise import check_options

FLINK = [
    "--flink_master=localhost:8081",
    "--flink_version=1.19",
    "--parallelism=4",
    "--state_backend=rocksdb",
    "--state_backend_storage_path=file:///shared",
    "--object_reuse",
    "--max_bundle_size=100",
    "--execution_mode_for_batch=BATCH_FORCED",
    "--environment_cache_millis=60000",
    "--environment_expiration_millis=60000",
    "--files_to_stage=a.jar",
]
SPARK = [
    "--spark_master_url=spark://localhost:7077",
    "--spark_job_server_jar=job-server.jar",
    "--storage_level=MEMORY_AND_DISK",
    "--bundle_size=1000",
    "--cache_disabled",
]


def test_options_of_the_engines_pass():
    check_options(["--runner=FlinkRunner", *FLINK])
    check_options(["--runner=SparkRunner", *SPARK])
    check_options(["--runner", "SparkRunner", "--storage_level", "MEMORY_AND_DISK"])
    check_options(["--runner=PortableRunner", "--job_endpoint=a:1", *FLINK, *SPARK])


@pytest.mark.parametrize("runner", ["FlinkRunner", "SparkRunner", "PortableRunner"])
def test_mistyped_options_are_refused_with_the_nearest_known_one(runner):
    for given, meant in (
        ("--num_bucket=4", "--num_buckets"),
        ("--max_rejected_fractions=0.1", "--max_rejected_fraction"),
        ("--environment_cache_milis=1", "--environment_cache_millis"),
        ("--gcs_endpont=x", "--gcs_endpoint"),
    ):
        name = given.split("=")[0]
        with pytest.raises(UserError, match=f"option '{name}'.*'{meant}'"):
            check_options([f"--runner={runner}", given])


@pytest.mark.parametrize(
    "runner, option, takers",
    [
        ("FnApiRunner", "--storage_level=DISK_ONLY", "SparkRunner and PortableRunner"),
        ("FlinkRunner", "--bundle_size=1", "SparkRunner and PortableRunner"),
        ("SparkRunner", "--object_reuse", "FlinkRunner and PortableRunner"),
    ],
)
def test_an_option_of_another_engine_is_refused_by_its_name(runner, option, takers):
    name = option.split("=")[0]
    expected = f"`{name}` is an option of {takers}. Received: --runner={runner}"
    with pytest.raises(UserError) as raised:
        check_options([f"--runner={runner}", option])
    assert str(raised.value) == expected
