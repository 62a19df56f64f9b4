//! Services, their checks, and Consul Connect.

use super::task::{IDENTITY, LOGS, RESOURCES};
use super::{Block, Field, Kind, Width};

pub(super) static CONSUL: Block = Block::new(
    "Consul",
    "Consul cluster and namespace.",
    &[
        Field::new("namespace", "Namespace", Kind::String, "Consul namespace."),
        Field::new("cluster", "Cluster", Kind::String, "Which of the configured clusters.").text("default"),
        Field::new("partition", "Partition", Kind::String, "Admin partition."),
    ],
);

pub(super) static SERVICE: Block = Block::new(
    "Service",
    "An address that is announced, and the checks that say whether it is healthy.",
    &[
        Field::new(
            "name",
            "Name",
            Kind::String,
            "Name; `${JOB}`, `${TASKGROUP}`, `${TASK}` and `${BASE}` are replaced.",
        )
        .computed("`<job>-<group>[-<task>]`"),
        Field::new("tags", "Tags", Kind::Strings, "Tags."),
        Field::new("canary_tags", "CanaryTags", Kind::Strings, "Tags while it is a canary."),
        Field::new(
            "enable_tag_override",
            "EnableTagOverride",
            Kind::Bool,
            "Others may change the tags in Consul.",
        ),
        Field::new("port", "PortLabel", Kind::String, "Label of a port, or a number."),
        Field::new(
            "address_mode",
            "AddressMode",
            Kind::String,
            "`auto`, `host`, `driver`, `alloc` or `alloc_ipv6`.",
        )
        .text("auto"),
        Field::new("address", "Address", Kind::String, "The address itself."),
        Field::new("check", "Checks", Kind::Blocks(&CHECK), "A check.").shown_as("Check"),
        Field::new(
            "check_restart",
            "CheckRestart",
            Kind::Block(&CHECK_RESTART),
            "Base of every check's `check_restart`.",
        )
        .submitted(),
        Field::new("connect", "Connect", Kind::Block(&CONNECT), "Consul service mesh."),
        Field::new("meta", "Meta", Kind::StringMap, "Names and texts."),
        Field::new("canary_meta", "CanaryMeta", Kind::StringMap, "Names and texts while it is a canary."),
        Field::new("tagged_addresses", "TaggedAddresses", Kind::StringMap, "More addresses, by tag."),
        Field::new("task", "TaskName", Kind::String, "Task that it belongs to, in a group."),
        Field::new(
            "on_update",
            "OnUpdate",
            Kind::String,
            "What a deployment asks for: `require_healthy`, `ignore_warnings` or `ignore`.",
        )
        .text("require_healthy"),
        Field::new("identity", "Identity", Kind::Block(&IDENTITY), "Identity to log in to Consul with."),
        Field::new("weights", "Weights", Kind::Block(&WEIGHTS), "Weights in Consul's name service."),
        Field::new("provider", "Provider", Kind::String, "`consul` or `nomad`.").text("consul"),
        Field::new("cluster", "Cluster", Kind::String, "Which of the configured Consul clusters.")
            .text("default"),
        Field::new("kind", "Kind", Kind::String, "Kind of the Consul service."),
        Field::new("", "Namespace", Kind::String, "Namespace that it is announced in.").stored(),
    ],
);

static CHECK: Block = Block::new(
    "ServiceCheck",
    "Whether a service is healthy.",
    &[
        Field::new("name", "Name", Kind::String, "Name.").computed("`service: \"<service>\" check`"),
        Field::new("type", "Type", Kind::String, "`http`, `tcp`, `script` or `grpc`."),
        Field::new("command", "Command", Kind::String, "Program (script)."),
        Field::new("args", "Args", Kind::Strings, "Its arguments (script)."),
        Field::new("path", "Path", Kind::String, "Path (http)."),
        Field::new("protocol", "Protocol", Kind::String, "`http` or `https`."),
        Field::new("port", "PortLabel", Kind::String, "Port when it is not the service's."),
        Field::new("expose", "Expose", Kind::Bool, "Expose the path past a Connect proxy."),
        Field::new("address_mode", "AddressMode", Kind::String, "As in `service`."),
        Field::new("advertise", "Advertise", Kind::String, "Address of the check.").submitted(),
        Field::new("interval", "Interval", Kind::Duration, "Time between two checks, at least 1s."),
        Field::new("timeout", "Timeout", Kind::Duration, "How long an answer may take, at least 1s."),
        Field::new(
            "initial_status",
            "InitialStatus",
            Kind::String,
            "`passing`, `warning`, `critical` or empty.",
        ),
        Field::new("notes", "Notes", Kind::String, "A remark."),
        Field::new("tls_server_name", "TLSServerName", Kind::String, "Name to ask for (https)."),
        Field::new("tls_skip_verify", "TLSSkipVerify", Kind::Bool, "Trust any certificate."),
        Field::new("header", "Header", Kind::StringListMap, "Headers of the request (http)."),
        Field::new("method", "Method", Kind::String, "Method of the request (http); `GET` when empty."),
        Field::new(
            "check_restart",
            "CheckRestart",
            Kind::Block(&CHECK_RESTART),
            "Restart when it stays unhealthy.",
        ),
        Field::new("grpc_service", "GRPCService", Kind::String, "Service to ask about (grpc)."),
        Field::new("grpc_use_tls", "GRPCUseTLS", Kind::Bool, "Use TLS (grpc)."),
        Field::new("task", "TaskName", Kind::String, "Task to run the script in."),
        Field::new(
            "success_before_passing",
            "SuccessBeforePassing",
            Kind::Int,
            "Successes in a row before it passes.",
        ),
        Field::new(
            "failures_before_critical",
            "FailuresBeforeCritical",
            Kind::Int,
            "Failures in a row before it is critical.",
        ),
        Field::new(
            "failures_before_warning",
            "FailuresBeforeWarning",
            Kind::Int,
            "Failures in a row before it warns.",
        ),
        Field::new("body", "Body", Kind::String, "Body of the request (http)."),
        Field::new("on_update", "OnUpdate", Kind::String, "What a deployment asks for.")
            .computed("the service's"),
    ],
);

static CHECK_RESTART: Block = Block::new(
    "CheckRestart",
    "Restarts a task whose check stays unhealthy.",
    &[
        Field::new("limit", "Limit", Kind::Int, "Failures in a row before a restart; 0 is never."),
        Field::new("grace", "Grace", Kind::Duration, "Time after a start in which failures do not count.")
            .pointer()
            .computed("1s"),
        Field::new("ignore_warnings", "IgnoreWarnings", Kind::Bool, "A warning is not a failure."),
    ],
);

static WEIGHTS: Block = Block::new(
    "ServiceWeights",
    "Weights in Consul's name service.",
    &[
        Field::new("passing", "Passing", Kind::Int, "While it passes."),
        Field::new("warning", "Warning", Kind::Int, "While it warns."),
    ],
);

static CONNECT: Block = Block::new(
    "ConsulConnect",
    "Consul service mesh.",
    &[
        Field::new("native", "Native", Kind::Bool, "The task speaks the mesh's protocol itself."),
        Field::new("gateway", "Gateway", Kind::Block(&GATEWAY), "The service is a gateway."),
        Field::new(
            "sidecar_service",
            "SidecarService",
            Kind::Block(&SIDECAR_SERVICE),
            "The service has a proxy beside it.",
        ),
        Field::new(
            "sidecar_task",
            "SidecarTask",
            Kind::Block(&SIDECAR_TASK),
            "What differs in the proxy's task.",
        ),
    ],
);

static SIDECAR_SERVICE: Block = Block::new(
    "ConsulSidecarService",
    "The proxy beside a service.",
    &[
        Field::new("tags", "Tags", Kind::Strings, "Tags of the proxy."),
        Field::new("port", "Port", Kind::String, "Label of its port."),
        Field::new("proxy", "Proxy", Kind::Block(&PROXY), "How it is set up."),
        Field::new(
            "disable_default_tcp_check",
            "DisableDefaultTCPCheck",
            Kind::Bool,
            "No check of the proxy's port.",
        ),
        Field::new("meta", "Meta", Kind::StringMap, "Names and texts of the proxy."),
    ],
);

static SIDECAR_TASK: Block = Block::new(
    "SidecarTask",
    "What differs in the proxy's task.",
    &[
        Field::new("name", "Name", Kind::String, "Name of the task."),
        Field::new("driver", "Driver", Kind::String, "Driver."),
        Field::new("user", "User", Kind::String, "User."),
        Field::new("config", "Config", Kind::Free, "What the driver is told."),
        Field::new("env", "Env", Kind::StringMap, "Environment variables."),
        Field::new("resources", "Resources", Kind::Block(&RESOURCES), "What it needs.")
            .computed("as a task's"),
        Field::new("meta", "Meta", Kind::StringMap, "Names and texts."),
        Field::new("kill_timeout", "KillTimeout", Kind::Duration, "Time between the signal and the kill.")
            .nullable()
            .seconds(5),
        Field::new("logs", "LogConfig", Kind::Block(&LOGS), "How its output is kept.")
            .computed("as a task's"),
        Field::new("identity", "Identities", Kind::Blocks(&IDENTITY), "Workload identities.")
            .shown_as("Identity"),
        Field::new("shutdown_delay", "ShutdownDelay", Kind::Duration, "Wait before stopping.")
            .nullable()
            .int(0),
        Field::new("kill_signal", "KillSignal", Kind::String, "First signal when stopping."),
        Field::new(
            "volume_mount",
            "VolumeMounts",
            Kind::Blocks(&super::task::VOLUME_MOUNT),
            "Mounts a volume of the group.",
        )
        .shown_as("VolumeMount"),
    ],
);

static PROXY: Block = Block::new(
    "ConsulProxy",
    "How a proxy is set up.",
    &[
        Field::new("local_service_address", "LocalServiceAddress", Kind::String, "Address of the service."),
        Field::new("local_service_port", "LocalServicePort", Kind::Int, "Port of the service."),
        Field::new("expose", "Expose", Kind::Block(&EXPOSE), "Paths that need no mesh."),
        Field::new("", "ExposeConfig", Kind::Block(&EXPOSE), "Old form of `Expose`.").submitted(),
        Field::new("upstreams", "Upstreams", Kind::Blocks(&UPSTREAM), "A service that it reaches.")
            .shown_as("Upstream"),
        Field::new(
            "transparent_proxy",
            "TransparentProxy",
            Kind::Block(&TRANSPARENT_PROXY),
            "All traffic goes through the proxy.",
        ),
        Field::new("config", "Config", Kind::Free, "What the proxy is told."),
    ],
);

static EXPOSE: Block = Block::new(
    "ConsulExposeConfig",
    "Paths that need no mesh.",
    &[
        Field::new("path", "Paths", Kind::Blocks(&EXPOSE_PATH), "One path.").shown_as("Path"),
        Field::new("", "Path", Kind::Blocks(&EXPOSE_PATH), "Old form of `Paths`.").submitted(),
    ],
);

static EXPOSE_PATH: Block = Block::new(
    "ConsulExposePath",
    "A path that needs no mesh.",
    &[
        Field::new("path", "Path", Kind::String, "The path."),
        Field::new("protocol", "Protocol", Kind::String, "`http` or `http2`."),
        Field::new("local_path_port", "LocalPathPort", Kind::Int, "Port of the service."),
        Field::new("listener_port", "ListenerPort", Kind::String, "Label of the port to listen on."),
    ],
);

static UPSTREAM: Block = Block::new(
    "ConsulUpstream",
    "A service that a proxy reaches.",
    &[
        Field::new("destination_name", "DestinationName", Kind::String, "Name of the service."),
        Field::new("destination_namespace", "DestinationNamespace", Kind::String, "Its namespace."),
        Field::new("destination_peer", "DestinationPeer", Kind::String, "Its cluster peer."),
        Field::new("destination_partition", "DestinationPartition", Kind::String, "Its partition."),
        Field::new("destination_type", "DestinationType", Kind::String, "`service` or `prepared_query`."),
        Field::new("local_bind_port", "LocalBindPort", Kind::Int, "Port to reach it at."),
        Field::new("datacenter", "Datacenter", Kind::String, "Its datacenter."),
        Field::new("local_bind_address", "LocalBindAddress", Kind::String, "Address to reach it at."),
        Field::new("local_bind_socket_path", "LocalBindSocketPath", Kind::String, "Socket to reach it at."),
        Field::new("local_bind_socket_mode", "LocalBindSocketMode", Kind::String, "Mode of the socket."),
        Field::new("mesh_gateway", "MeshGateway", Kind::Block(&MESH_GATEWAY), "Gateway on the way."),
        Field::new("config", "Config", Kind::Free, "What the proxy is told about it."),
    ],
);

static MESH_GATEWAY: Block = Block::new(
    "ConsulMeshGateway",
    "Gateway on the way to an upstream.",
    &[Field::new("mode", "Mode", Kind::String, "`local`, `remote` or `none`.")],
);

static TRANSPARENT_PROXY: Block = Block::new(
    "ConsulTransparentProxy",
    "All traffic of the group goes through the proxy.",
    &[
        Field::new("uid", "UID", Kind::String, "User of the proxy."),
        Field::new("outbound_port", "OutboundPort", Kind::Uint, "Port of the proxy for outgoing traffic.")
            .width(Width::Uint16),
        Field::new(
            "exclude_inbound_ports",
            "ExcludeInboundPorts",
            Kind::Strings,
            "Incoming ports to leave alone.",
        ),
        Field::new(
            "exclude_outbound_ports",
            "ExcludeOutboundPorts",
            Kind::Ints,
            "Outgoing ports to leave alone.",
        ),
        Field::new(
            "exclude_outbound_cidrs",
            "ExcludeOutboundCIDRs",
            Kind::Strings,
            "Networks to leave alone.",
        ),
        Field::new("exclude_uids", "ExcludeUIDs", Kind::Strings, "Users to leave alone."),
        Field::new("no_dns", "NoDNS", Kind::Bool, "Leave name service alone."),
    ],
);

static GATEWAY: Block = Block::new(
    "ConsulGateway",
    "The service is a gateway of the mesh.",
    &[
        Field::new("proxy", "Proxy", Kind::Block(&GATEWAY_PROXY), "How its proxy is set up."),
        Field::new("ingress", "Ingress", Kind::Block(&INGRESS), "Into the mesh."),
        Field::new("terminating", "Terminating", Kind::Block(&TERMINATING), "Out of the mesh."),
        Field::new("mesh", "Mesh", Kind::Block(&MESH), "Between meshes."),
    ],
);

static MESH: Block = Block::new("ConsulMeshConfigEntry", "Between meshes; holds nothing.", &[]);

static GATEWAY_PROXY: Block = Block::new(
    "ConsulGatewayProxy",
    "How a gateway's proxy is set up.",
    &[
        Field::new("connect_timeout", "ConnectTimeout", Kind::Duration, "Longest wait for an upstream.")
            .nullable()
            .seconds(5),
        Field::new(
            "envoy_gateway_bind_tagged_addresses",
            "EnvoyGatewayBindTaggedAddresses",
            Kind::Bool,
            "Listen on the tagged addresses.",
        ),
        Field::new(
            "envoy_gateway_bind_addresses",
            "EnvoyGatewayBindAddresses",
            Kind::BlockMap(&BIND_ADDRESS),
            "An address to listen on.",
        ),
        Field::new(
            "envoy_gateway_no_default_bind",
            "EnvoyGatewayNoDefaultBind",
            Kind::Bool,
            "Do not listen on the service's address.",
        ),
        Field::new(
            "envoy_dns_discovery_type",
            "EnvoyDNSDiscoveryType",
            Kind::String,
            "`STRICT_DNS` or `LOGICAL_DNS`.",
        ),
        Field::new("config", "Config", Kind::Free, "What the proxy is told."),
    ],
);

static BIND_ADDRESS: Block = Block::new(
    "ConsulGatewayBindAddress",
    "An address that a gateway listens on.",
    &[
        Field::new("name", "Name", Kind::String, "Name of the listener; the block's label.").label(),
        Field::new("address", "Address", Kind::String, "Address."),
        Field::new("port", "Port", Kind::Int, "Port."),
    ],
);

static INGRESS: Block = Block::new(
    "ConsulIngressConfigEntry",
    "A gateway into the mesh.",
    &[
        Field::new("tls", "TLS", Kind::Block(&GATEWAY_TLS), "TLS of all listeners."),
        Field::new("listener", "Listeners", Kind::Blocks(&LISTENER), "A listener.").shown_as("Listener"),
    ],
);

static GATEWAY_TLS: Block = Block::new(
    "ConsulGatewayTLSConfig",
    "TLS of a gateway.",
    &[
        Field::new("enabled", "Enabled", Kind::Bool, "Use it."),
        Field::new("tls_min_version", "TLSMinVersion", Kind::String, "Lowest version."),
        Field::new("tls_max_version", "TLSMaxVersion", Kind::String, "Highest version."),
        Field::new("cipher_suites", "CipherSuites", Kind::Strings, "Ciphers."),
        Field::new("sds", "SDS", Kind::Block(&GATEWAY_SDS), "Where certificates come from."),
    ],
);

static GATEWAY_SDS: Block = Block::new(
    "ConsulGatewayTLSSDSConfig",
    "Where a gateway's certificates come from.",
    &[
        Field::new("cluster_name", "ClusterName", Kind::String, "Cluster to ask."),
        Field::new("cert_resource", "CertResource", Kind::String, "Certificate to ask for."),
    ],
);

static LISTENER: Block = Block::new(
    "ConsulIngressListener",
    "A listener of an ingress gateway.",
    &[
        Field::new("port", "Port", Kind::Int, "Port."),
        Field::new("protocol", "Protocol", Kind::String, "`tcp`, `http`, `http2` or `grpc`.").text("tcp"),
        Field::new("service", "Services", Kind::Blocks(&INGRESS_SERVICE), "A service behind it.")
            .shown_as("Service"),
    ],
);

static INGRESS_SERVICE: Block = Block::new(
    "ConsulIngressService",
    "A service behind an ingress gateway.",
    &[
        Field::new("name", "Name", Kind::String, "Name of the service."),
        Field::new("hosts", "Hosts", Kind::Strings, "Host names that lead to it."),
        Field::new("tls", "TLS", Kind::Block(&GATEWAY_TLS), "TLS of this service."),
        Field::new(
            "request_headers",
            "RequestHeaders",
            Kind::Block(&HEADER_CHANGES),
            "Changes of request headers.",
        ),
        Field::new(
            "response_headers",
            "ResponseHeaders",
            Kind::Block(&HEADER_CHANGES),
            "Changes of response headers.",
        ),
        Field::new("max_connections", "MaxConnections", Kind::Uint, "Most connections.")
            .width(Width::Uint32)
            .nullable(),
        Field::new("max_pending_requests", "MaxPendingRequests", Kind::Uint, "Most requests that wait.")
            .width(Width::Uint32)
            .nullable(),
        Field::new(
            "max_concurrent_requests",
            "MaxConcurrentRequests",
            Kind::Uint,
            "Most requests at the same time.",
        )
        .width(Width::Uint32)
        .nullable(),
    ],
);

static HEADER_CHANGES: Block = Block::new(
    "ConsulHTTPHeaderModifiers",
    "Changes of headers.",
    &[
        Field::new("add", "Add", Kind::StringMap, "Headers to add."),
        Field::new("set", "Set", Kind::StringMap, "Headers to set."),
        Field::new("remove", "Remove", Kind::Strings, "Headers to remove."),
    ],
);

static TERMINATING: Block = Block::new(
    "ConsulTerminatingConfigEntry",
    "A gateway out of the mesh.",
    &[Field::new("service", "Services", Kind::Blocks(&LINKED_SERVICE), "A service outside.")
        .shown_as("Service")],
);

static LINKED_SERVICE: Block = Block::new(
    "ConsulLinkedService",
    "A service outside the mesh.",
    &[
        Field::new("name", "Name", Kind::String, "Name of the service."),
        Field::new("ca_file", "CAFile", Kind::String, "Certificate authority."),
        Field::new("cert_file", "CertFile", Kind::String, "Certificate."),
        Field::new("key_file", "KeyFile", Kind::String, "Its key."),
        Field::new("sni", "SNI", Kind::String, "Name to ask for."),
    ],
);
