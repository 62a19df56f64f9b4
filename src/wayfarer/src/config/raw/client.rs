//! The keys of the `client` block.

use super::*;

section! {
    /// The client's part.
    RawClient {
        enabled: bool => "Enabled";
        state_dir: String => "StateDir";
        alloc_dir: String => "AllocDir";
        alloc_mounts_dir: String => "AllocMountsDir" [Later];
        host_volumes_dir: String => "HostVolumesDir" [Later];
        host_volume_plugin_dir: String => "HostVolumePluginDir" [Later];
        common_plugin_dir: String => "CommonPluginDir" [Later];
        servers: Added => "Servers";
        server_join: RawServerJoin => "ServerJoin";
        node_class: String => "NodeClass";
        node_pool: String => "NodePool";
        options: BTreeMap<String, String> => "Options";
        meta: BTreeMap<String, String> => "Meta";
        chroot_env: BTreeMap<String, String> => "ChrootEnv" [Later];
        network_interface: String => "NetworkInterface";
        network_speed: i64 => "NetworkSpeed";
        preferred_address_family: String => "PreferredAddressFamily" [Later];
        cpu_total_compute: i64 => "CpuCompute";
        cpu_disable_dmidecode: bool => "CpuDisableDmidecode" [Inert];
        memory_total_mb: i64 => "MemoryMB";
        disk_total_mb: i64 => "DiskTotalMB";
        disk_free_mb: i64 => "DiskFreeMB";
        reservable_cores: String => "ReservableCores";
        max_kill_timeout: Span => "MaxKillTimeout";
        client_max_port: i64 => "ClientMaxPort" [Inert];
        client_min_port: i64 => "ClientMinPort" [Inert];
        max_dynamic_port: i64 => "MaxDynamicPort";
        min_dynamic_port: i64 => "MinDynamicPort";
        reserved: RawReserved => "Reserved";
        gc_interval: Span => "GCInterval";
        gc_parallel_destroys: i64 => "GCParallelDestroys" [Later];
        gc_disk_usage_threshold: f64 => "GCDiskUsageThreshold" [Later];
        gc_inode_usage_threshold: f64 => "GCInodeUsageThreshold" [Later];
        gc_max_allocs: i64 => "GCMaxAllocs";
        gc_volumes_on_node_gc: bool => "GCVolumesOnNodeGC" [Later];
        no_host_uuid: bool => "NoHostUUID" [Inert];
        disable_remote_exec: bool => "DisableRemoteExec" [Later];
        template: RawTemplate => "TemplateConfig" [Later];
        host_volume: BTreeMap<String, RawHostVolume> => "HostVolumes";
        host_network: BTreeMap<String, RawHostNetwork> => "HostNetworks";
        bind_wildcard_default_host_network: bool => "BindWildcardDefaultHostNetwork" [Later];
        cni_path: String => "CNIPath" [Later];
        cni_config_dir: String => "CNIConfigDir" [Later];
        bridge_network_name: String => "BridgeNetworkName" [Later];
        bridge_network_subnet: String => "BridgeNetworkSubnet" [Later];
        bridge_network_subnet_ipv6: String => "BridgeNetworkSubnetIPv6" [Later];
        bridge_network_hairpin_mode: bool => "BridgeNetworkHairpinMode" [Later];
        cgroup_parent: String => "CgroupParent";
        nomad_service_discovery: bool => "NomadServiceDiscovery" [Later];
        artifact: RawArtifact => "Artifact" [Later];
        drain_on_shutdown: RawDrain => "Drain" [Later];
        users: RawUsers => "Users" [Later];
        fingerprint: BTreeMap<String, RawFingerprint> => "Fingerprinters" [Later];
        node_max_allocs: i64 => "NodeMaxAllocs";
        default_ineligible: bool => "DefaultIneligible";
        intro_token: Secret => "IntroToken" [Later];
    }
}

section! {
    /// What is held back from tasks.
    RawReserved {
        cpu: i64 => "CPU";
        memory: i64 => "MemoryMB";
        disk: i64 => "DiskMB";
        reserved_ports: String => "ReservedPorts";
        cores: String => "Cores";
    }
}

section! {
    /// A directory offered to jobs.
    RawHostVolume {
        path: String => "Path";
        read_only: bool => "ReadOnly";
    }
}

section! {
    /// A named network of the machine.
    RawHostNetwork {
        cidr: String => "CIDR";
        interface: String => "Interface";
        reserved_ports: String => "ReservedPorts";
    }
}

section! {
    /// What a client does with its work when it stops.
    RawDrain {
        deadline: Span => "Deadline";
        force: bool => "Force";
        ignore_system_jobs: bool => "IgnoreSystemJobs";
    }
}

section! {
    /// Ids for users of tasks.
    RawUsers {
        dynamic_user_min: i64 => "MinDynamicUser";
        dynamic_user_max: i64 => "MaxDynamicUser";
    }
}

section! {
    /// How patiently a fact is looked for.
    RawFingerprint {
        retry_interval: Span => "RetryInterval";
        retry_attempts: i64 => "RetryAttempts";
        exit_on_failure: bool => "ExitOnFailure";
    }
}

section! {
    /// Bounds of downloads.
    RawArtifact {
        http_read_timeout: Span => "HTTPReadTimeout";
        http_max_size: String => "HTTPMaxSize";
        gcs_timeout: Span => "GCSTimeout";
        git_timeout: Span => "GitTimeout";
        hg_timeout: Span => "HgTimeout";
        s3_timeout: Span => "S3Timeout";
        decompression_file_count_limit: i64 => "DecompressionFileCountLimit";
        decompression_size_limit: String => "DecompressionSizeLimit";
        disable_artifact_inspection: bool => "DisableArtifactInspection";
        disable_filesystem_isolation: bool => "DisableFilesystemIsolation";
        filesystem_isolation_extra_paths: Vec<String> => "FilesystemIsolationExtraPaths";
        set_environment_variables: String => "SetEnvironmentVariables";
    }
}

section! {
    /// Templates.
    RawTemplate {
        function_denylist: Vec<String> => "FunctionDenylist";
        function_blacklist: Vec<String> => "FunctionBlacklist";
        disable_file_sandbox: bool => "DisableSandbox";
        max_stale: Span => "MaxStale";
        block_query_wait: Span => "BlockQueryWaitTime";
        wait: RawWait => "Wait";
        wait_bounds: RawWait => "WaitBounds";
        consul_retry: RawRetry => "ConsulRetry";
        vault_retry: RawRetry => "VaultRetry";
        nomad_retry: RawRetry => "NomadRetry";
        vault_default_lease_duration: Span => "VaultDefaultLeaseDuration";
        use_client_consul_token: bool => "UseClientConsulToken";
    }
}

section! {
    /// How long to wait for more changes.
    RawWait {
        enabled: bool => "";
        min: Span => "Min";
        max: Span => "Max";
    }
}

section! {
    /// How often to try again.
    RawRetry {
        attempts: i64 => "Attempts";
        backoff: Span => "Backoff";
        max_backoff: Span => "MaxBackoff";
    }
}
