//! The task and everything inside it but services.

use super::group::{NETWORK, RESTART, SCALING};
use super::job::{AFFINITY, CONSTRAINT};
use super::service::{CONSUL, SERVICE};
use super::{Block, Field, Kind};

pub(super) static TASK: Block = Block::new(
    "Task",
    "One process or container, run by a driver.",
    &[
        Field::new("name", "Name", Kind::String, "Name, unique in the group; the block's label.")
            .hidden()
            .label(),
        Field::new(
            "driver",
            "Driver",
            Kind::String,
            "What runs it: `docker`, `exec`, `raw_exec`, `java`, `qemu` and others.",
        ),
        Field::new("user", "User", Kind::String, "User that it runs as."),
        Field::new("lifecycle", "Lifecycle", Kind::Block(&LIFECYCLE), "When it runs beside the main tasks."),
        Field::new("config", "Config", Kind::Free, "What the driver is told; see the driver."),
        Field::new("constraint", "Constraints", Kind::Blocks(&CONSTRAINT), "What a node must be.")
            .shown_as("Constraint"),
        Field::new("affinity", "Affinities", Kind::Blocks(&AFFINITY), "What a node should rather be.")
            .shown_as("Affinity"),
        Field::new("env", "Env", Kind::StringMap, "Environment variables.").block_or_argument(),
        Field::new("service", "Services", Kind::Blocks(&SERVICE), "What to announce, and its checks.")
            .shown_as("Service"),
        Field::new("resources", "Resources", Kind::Block(&RESOURCES), "What it needs."),
        Field::new("restart", "RestartPolicy", Kind::Block(&RESTART), "Over the group's `restart`.")
            .computed("the group's"),
        Field::new("meta", "Meta", Kind::StringMap, "Names and texts, over the group's.").block_or_argument(),
        Field::new("kill_timeout", "KillTimeout", Kind::Duration, "Time between the signal and the kill.")
            .pointer()
            .seconds(5),
        Field::new("logs", "LogConfig", Kind::Block(&LOGS), "How its output is kept."),
        Field::new("artifact", "Artifacts", Kind::Blocks(&ARTIFACT), "A file to fetch before the start.")
            .shown_as("Artifact"),
        Field::new("vault", "Vault", Kind::Block(&VAULT), "Access to Vault."),
        Field::new("consul", "Consul", Kind::Block(&CONSUL), "Access to Consul."),
        Field::new("template", "Templates", Kind::Blocks(&TEMPLATE), "A file made from a template.")
            .shown_as("Template"),
        Field::new(
            "dispatch_payload",
            "DispatchPayload",
            Kind::Block(&DISPATCH_PAYLOAD),
            "Where the payload of a dispatch goes.",
        ),
        Field::new(
            "volume_mount",
            "VolumeMounts",
            Kind::Blocks(&VOLUME_MOUNT),
            "Mounts a volume of the group.",
        )
        .shown_as("VolumeMount"),
        Field::new("csi_plugin", "CSIPluginConfig", Kind::Block(&CSI_PLUGIN), "The task is a CSI plugin.")
            .shown_as("CSIPluginConfig")
            .omit_null(),
        Field::new("leader", "Leader", Kind::Bool, "When it ends, the others of the group end."),
        Field::new(
            "shutdown_delay",
            "ShutdownDelay",
            Kind::Duration,
            "Wait between leaving the service catalogue and stopping.",
        ),
        Field::new("kill_signal", "KillSignal", Kind::String, "First signal when stopping."),
        Field::new("kind", "Kind", Kind::String, "Set by the server for Connect proxies."),
        Field::new(
            "scaling",
            "ScalingPolicies",
            Kind::Blocks(&SCALING),
            "Policy of an autoscaler, labelled `cpu` or `mem`.",
        )
        .shown_as("ScalingPolicy"),
        Field::new("secret", "Secrets", Kind::Blocks(&SECRET), "A secret to read before the start.")
            .shown_as("Secret"),
        Field::new("", "Identity", Kind::Block(&IDENTITY), "The default workload identity."),
        Field::new(
            "identity",
            "Identities",
            Kind::Blocks(&IDENTITY),
            "A workload identity; without a name, the default one.",
        )
        .shown_as("Identity"),
        Field::new("action", "Actions", Kind::Blocks(&ACTION), "A command that users may run in the task.")
            .shown_as("Action"),
        Field::new("schedule", "Schedule", Kind::Block(&SCHEDULE), "When the task is paused."),
    ],
);

static LIFECYCLE: Block = Block::new(
    "TaskLifecycle",
    "When a task runs beside the main tasks.",
    &[
        Field::new("hook", "Hook", Kind::String, "`prestart`, `poststart` or `poststop`.").required(),
        Field::new("sidecar", "Sidecar", Kind::Bool, "It keeps running beside them."),
    ],
);

pub(crate) static RESOURCES: Block = Block::new(
    "Resources",
    "What a task needs on its node.",
    &[
        Field::new("cpu", "CPU", Kind::Int, "Share of the processor, in MHz.")
            .pointer()
            .computed("100, or 0 with `cores`"),
        Field::new("cores", "Cores", Kind::Int, "Cores of its own.").pointer().int(0),
        Field::new("memory", "MemoryMB", Kind::Int, "Memory in MB.").pointer().int(300),
        Field::new(
            "memory_max",
            "MemoryMaxMB",
            Kind::Int,
            "Memory that it may use when there is some; -1 is all.",
        )
        .pointer(),
        Field::new("disk", "DiskMB", Kind::Int, "Without effect; see `ephemeral_disk`.").pointer(),
        Field::new("network", "Networks", Kind::Blocks(&NETWORK), "Old place of `network`.")
            .shown_as("Network"),
        Field::new("device", "Devices", Kind::Blocks(&DEVICE), "A device.").shown_as("Device"),
        Field::new("numa", "NUMA", Kind::Block(&NUMA), "Closeness of cores and devices."),
        Field::new("secrets", "SecretsMB", Kind::Int, "Size of the secrets directory in MB.").pointer(),
        Field::new("iops", "IOPS", Kind::Int, "Without effect.").pointer(),
    ],
);

static DEVICE: Block = Block::new(
    "RequestedDevice",
    "A device that a task needs.",
    &[
        Field::new(
            "name",
            "Name",
            Kind::String,
            "`type`, `vendor/type` or `vendor/type/name`; the block's label.",
        )
        .label(),
        Field::new("count", "Count", Kind::Uint, "How many.").pointer().int(1),
        Field::new("constraint", "Constraints", Kind::Blocks(&CONSTRAINT), "What the device must be.")
            .shown_as("Constraint"),
        Field::new("affinity", "Affinities", Kind::Blocks(&AFFINITY), "What the device should rather be.")
            .shown_as("Affinity"),
    ],
);

static NUMA: Block = Block::new(
    "NUMAResource",
    "Closeness of cores and devices.",
    &[
        Field::new("affinity", "Affinity", Kind::String, "`none`, `prefer` or `require`.").text("none"),
        Field::new("devices", "Devices", Kind::Strings, "Devices that must be close.").shown_as("Device"),
    ],
);

pub(crate) static LOGS: Block = Block::new(
    "LogConfig",
    "How a task's output is kept.",
    &[
        Field::new("max_files", "MaxFiles", Kind::Int, "Files of each stream.").pointer().int(10),
        Field::new("max_file_size", "MaxFileSizeMB", Kind::Int, "Size of a file in MB.").pointer().int(10),
        Field::new("enabled", "Enabled", Kind::Bool, "Old form of `disabled`.").pointer().submitted(),
        Field::new("disabled", "Disabled", Kind::Bool, "Keep nothing.").pointer().bool(false),
    ],
);

static ARTIFACT: Block = Block::new(
    "TaskArtifact",
    "A file or directory to fetch before the task starts.",
    &[
        Field::new("source", "GetterSource", Kind::String, "Address: http, https, git, hg, s3, gcs.")
            .pointer()
            .text(""),
        Field::new(
            "options",
            "GetterOptions",
            Kind::StringMap,
            "Options such as `checksum`, `archive`, `sshkey`.",
        ),
        Field::new("headers", "GetterHeaders", Kind::StringMap, "Headers of the request."),
        Field::new("mode", "GetterMode", Kind::String, "`any`, `file` or `dir`.").pointer().text("any"),
        Field::new("insecure", "GetterInsecure", Kind::Bool, "Trust any certificate.").pointer().bool(false),
        Field::new("destination", "RelativeDest", Kind::String, "Where it goes in the task's directory.")
            .pointer()
            .computed("`local/`, with the file's name for `file`"),
        Field::new("chown", "Chown", Kind::Bool, "Give it to the task's user."),
    ],
);

pub(super) static VAULT: Block = Block::new(
    "Vault",
    "Access to Vault.",
    &[
        Field::new("policies", "Policies", Kind::Strings, "Policies (old way)."),
        Field::new("role", "Role", Kind::String, "Role to log in with."),
        Field::new("namespace", "Namespace", Kind::String, "Vault namespace.").pointer().text(""),
        Field::new("cluster", "Cluster", Kind::String, "Which of the configured clusters.").text("default"),
        Field::new("env", "Env", Kind::Bool, "Put the token into the environment.").pointer().bool(true),
        Field::new("disable_file", "DisableFile", Kind::Bool, "Do not write the token to a file.")
            .pointer()
            .bool(false),
        Field::new(
            "change_mode",
            "ChangeMode",
            Kind::String,
            "On a new token: `restart`, `signal` or `noop`.",
        )
        .pointer()
        .text("restart"),
        Field::new("change_signal", "ChangeSignal", Kind::String, "Signal for `signal`.")
            .pointer()
            .text("SIGHUP"),
        Field::new("allow_token_expiration", "AllowTokenExpiration", Kind::Bool, "Do not renew the token.")
            .pointer()
            .bool(false),
    ],
);

static TEMPLATE: Block = Block::new(
    "Template",
    "A file made from a template, again whenever its data change.",
    &[
        Field::new("source", "SourcePath", Kind::String, "File with the template.").pointer().text(""),
        Field::new("destination", "DestPath", Kind::String, "File to write.").pointer().text(""),
        Field::new("data", "EmbeddedTmpl", Kind::String, "The template itself.").pointer().text(""),
        Field::new(
            "change_mode",
            "ChangeMode",
            Kind::String,
            "When the file changes: `restart`, `signal`, `script` or `noop`.",
        )
        .pointer()
        .text("restart"),
        Field::new("change_script", "ChangeScript", Kind::Block(&CHANGE_SCRIPT), "What to run for `script`."),
        Field::new("change_signal", "ChangeSignal", Kind::String, "Signal for `signal`.")
            .pointer()
            .computed("`SIGHUP` for `signal`"),
        Field::new("once", "Once", Kind::Bool, "Render once and never again.").pointer().bool(false),
        Field::new("splay", "Splay", Kind::Duration, "Wait up to this long before the change takes effect.")
            .pointer()
            .seconds(5),
        Field::new("perms", "Perms", Kind::String, "Mode of the file, octal.").pointer().text("0644"),
        Field::new("uid", "Uid", Kind::Int, "Owner of the file.").nullable(),
        Field::new("gid", "Gid", Kind::Int, "Group of the file.").nullable(),
        Field::new("left_delimiter", "LeftDelim", Kind::String, "Start of an action.").pointer().text("{{"),
        Field::new("right_delimiter", "RightDelim", Kind::String, "End of an action.").pointer().text("}}"),
        Field::new("env", "Envvars", Kind::Bool, "Read the file as environment variables.")
            .pointer()
            .bool(false),
        Field::new("vault_grace", "VaultGrace", Kind::Duration, "Without effect.").pointer().int(0),
        Field::new("wait", "Wait", Kind::Block(&TEMPLATE_WAIT), "Waiting for data to settle."),
        Field::new(
            "error_on_missing_key",
            "ErrMissingKey",
            Kind::Bool,
            "A missing key of a map is an error.",
        )
        .pointer()
        .bool(false),
    ],
);

static TEMPLATE_WAIT: Block = Block::new(
    "WaitConfig",
    "Waiting for data to settle before rendering.",
    &[
        Field::new("min", "Min", Kind::Duration, "Shortest wait.").nullable(),
        Field::new("max", "Max", Kind::Duration, "Longest wait.").nullable(),
    ],
);

static CHANGE_SCRIPT: Block = Block::new(
    "ChangeScript",
    "What to run in the task when a template changed.",
    &[
        Field::new("command", "Command", Kind::String, "Program.").pointer().text(""),
        Field::new("args", "Args", Kind::Strings, "Its arguments.").empty(),
        Field::new("timeout", "Timeout", Kind::Duration, "Longest run.").pointer().seconds(5),
        Field::new("fail_on_error", "FailOnError", Kind::Bool, "Kill the task when it fails.")
            .pointer()
            .bool(false),
        Field::new(
            "run_on_first_render",
            "RunOnFirstRender",
            Kind::Bool,
            "Run it after the first rendering, too.",
        )
        .pointer()
        .bool(false),
    ],
);

static DISPATCH_PAYLOAD: Block = Block::new(
    "DispatchPayloadConfig",
    "Where the payload of a dispatch goes.",
    &[Field::new("file", "File", Kind::String, "File below the task's `local` directory.")],
);

pub(super) static VOLUME_MOUNT: Block = Block::new(
    "VolumeMount",
    "Mounts a volume of the group into the task.",
    &[
        Field::new("volume", "Volume", Kind::String, "The volume's name.").pointer(),
        Field::new("destination", "Destination", Kind::String, "Where it appears.").pointer(),
        Field::new("read_only", "ReadOnly", Kind::Bool, "The task may not write.").pointer().bool(false),
        Field::new(
            "propagation_mode",
            "PropagationMode",
            Kind::String,
            "`private`, `host-to-task` or `bidirectional`.",
        )
        .pointer()
        .text("private"),
        Field::new("selinux_label", "SELinuxLabel", Kind::String, "SELinux label: `z` or `Z`.")
            .pointer()
            .text(""),
    ],
);

static CSI_PLUGIN: Block = Block::new(
    "TaskCSIPluginConfig",
    "The task is a CSI plugin.",
    &[
        Field::new("id", "ID", Kind::String, "Name of the plugin."),
        Field::new("type", "Type", Kind::String, "`node`, `controller` or `monolith`."),
        Field::new("mount_dir", "MountDir", Kind::String, "Where its socket is.").text("/csi"),
        Field::new(
            "stage_publish_base_dir",
            "StagePublishBaseDir",
            Kind::String,
            "Where volumes are staged.",
        )
        .text("/local/csi"),
        Field::new("health_timeout", "HealthTimeout", Kind::Duration, "By when it must answer.").seconds(30),
    ],
);

pub(super) static SECRET: Block = Block::new(
    "Secret",
    "A secret, read before the start; used as `${secret.<name>.<key>}`.",
    &[
        Field::new("name", "Name", Kind::String, "Name of the secret; the block's label.").label(),
        Field::new("provider", "Provider", Kind::String, "`nomad`, `vault` or a plugin."),
        Field::new("path", "Path", Kind::String, "Where the provider finds it."),
        Field::new("config", "Config", Kind::Free, "What the provider is told."),
        Field::new("env", "Env", Kind::StringMap, "Environment of the plugin."),
    ],
);

pub(crate) static IDENTITY: Block = Block::new(
    "WorkloadIdentity",
    "A signed token that tells others who the workload is.",
    &[
        Field::new("name", "Name", Kind::String, "Name of the identity.").computed("`default`"),
        Field::new("aud", "Audience", Kind::Strings, "For whom the token is."),
        Field::new(
            "change_mode",
            "ChangeMode",
            Kind::String,
            "On a new token: `restart`, `signal` or `noop`.",
        ),
        Field::new("change_signal", "ChangeSignal", Kind::String, "Signal for `signal`."),
        Field::new("env", "Env", Kind::Bool, "Put the token into the environment."),
        Field::new(
            "extra_claims",
            "ExtraClaims",
            Kind::Strings,
            "Which of the claims that the agents offer are in the token.",
        ),
        Field::new("file", "File", Kind::Bool, "Write the token to a file."),
        Field::new("filepath", "Filepath", Kind::String, "Which file."),
        Field::new("service_name", "ServiceName", Kind::String, "Service that it belongs to."),
        Field::new("ttl", "TTL", Kind::Duration, "How long a token is valid."),
    ],
);

static ACTION: Block = Block::new(
    "Action",
    "A command that users may run in the task.",
    &[
        Field::new("name", "Name", Kind::String, "Name of the action; the block's label.").label(),
        Field::new("command", "Command", Kind::String, "Program.").required(),
        Field::new("args", "Args", Kind::Strings, "Its arguments."),
    ],
);

static SCHEDULE: Block = Block::new(
    "TaskSchedule",
    "When the task runs and when it is paused.",
    &[Field::new("cron", "Cron", Kind::Block(&SCHEDULE_CRON), "The times.")],
);

static SCHEDULE_CRON: Block = Block::new(
    "TaskScheduleCron",
    "The times of a schedule.",
    &[
        Field::new("start", "Start", Kind::String, "When it starts, a cron expression."),
        Field::new("end", "End", Kind::String, "When it is paused, a cron expression."),
        Field::new("timezone", "Timezone", Kind::String, "Time zone of both."),
    ],
);
