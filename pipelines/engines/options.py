"""Options of Beam's Java runners, which the Python SDK does not know by itself.

They are what Beam's job servers answer when they are asked (`DescribePipelineOptions`),
less what the Python SDK declares. Beam passes over options that neither knows.
"""

_OF_BOTH = """
    app_name bundle_processor_cache_timeout credential_factory_class
    default_environment_config default_environment_type enable_heap_dumps
    environment_expiration_millis executor_service g_c_thrashing_percentage_per_period
    gcp_credential gcp_temp_location gcs_endpoint gcs_http_request_read_timeout
    gcs_http_request_write_timeout gcs_performance_metrics gcs_read_counter_prefix
    gcs_rewrite_data_op_batch_limit gcs_upload_buffer_size_bytes gcs_util
    gcs_write_counter_prefix google_api_trace google_cloud_storage_read_options
    grouping_table_max_size_mb jdk_add_open_modules load_balance_bundles log_mdc
    max_cache_memory_usage_mb_class max_cache_memory_usage_percent options_id
    path_validator path_validator_class retain_docker_containers semi_persist_dir
    stable_unique_names transform_service_address transform_service_beam_version
    transforms_to_override
"""
_OF_FLINK = """
    allow_non_restored_state attached_mode auto_balance_write_files_sharding_enabled
    auto_watermark_interval checkpoint_timeout_millis checkpointing_interval
    checkpointing_mode disable_metrics enable_stable_input_drain
    execution_mode_for_batch execution_retry_delay externalized_checkpoints_enabled
    fail_on_checkpointing_errors faster_copy file_input_split_max_size_m_b
    finish_bundle_before_checkpointing flink_conf_dir force_unaligned_checkpoint_enabled
    job_check_interval_in_secs latency_tracking_interval max_bundle_size
    max_bundle_time_mills min_pause_between_checkpoints num_concurrent_checkpoints
    number_of_execution_retries object_reuse operator_chaining
    re_iterable_group_by_key_result report_checkpoint_duration
    retain_externalized_checkpoints_on_cancellation savepoint_path
    shutdown_sources_after_idle_ms state_backend state_backend_factory
    state_backend_storage_path unaligned_checkpoint_enabled use_data_stream_for_batch
"""
_OF_SPARK = """
    batch_interval_millis bundle_size cache_disabled checkpoint_dir
    checkpoint_duration_millis enable_spark_metric_sinks max_records_per_batch
    min_read_time_millis read_time_percentage spark_master storage_level
    streaming_timeout_ms test_mode use_active_spark_session uses_provided_spark_context
"""


def _names(*texts: str) -> frozenset[str]:
    return frozenset(f"--{name}" for text in texts for name in text.split())


OF_RUNNERS = {
    "FlinkRunner": _names(_OF_BOTH, _OF_FLINK),
    "SparkRunner": _names(_OF_BOTH, _OF_SPARK),
    "PortableRunner": _names(_OF_BOTH, _OF_FLINK, _OF_SPARK),
}
