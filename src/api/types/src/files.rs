use crate::Time;

shape! {
    /// A file or directory of an allocation.
    AllocFileInfo {
        #[serde(skip_serializing_if = "String::is_empty")]
        content_type "ContentType": String,
        file_mode "FileMode": String,
        is_dir "IsDir": bool,
        mod_time "ModTime": Time,
        name "Name": String,
        size "Size": u64,
    }
}

sparse! {
    /// A piece of a stream of a file; the empty one is a heartbeat.
    StreamFrame {
        #[serde(with = "base64_bytes")]
        data "Data": Vec<u8>,
        file "File": String,
        file_event "FileEvent": String,
        offset "Offset": i64,
    }
    /// What the runner of a command in a task sends.
    ExecOutput {
        exited "exited": bool,
        result "result": Option<ExecResult>,
        stderr "stderr": Option<ExecBytes>,
        stdout "stdout": Option<ExecBytes>,
    }
    /// What the caller of a command in a task sends.
    ExecInput {
        stdin "stdin": Option<ExecBytes>,
        tty_size "tty_size": Option<TerminalSize>,
    }
    /// A piece of a command's input or output.
    ExecBytes {
        close "close": bool,
        #[serde(with = "base64_bytes")]
        data "data": Vec<u8>,
    }
    /// How a command ended.
    ExecResult { exit_code "exit_code": i32, }
}

shape! {
    /// The size of a terminal.
    TerminalSize {
        height "height": u16,
        width "width": u16,
    }
}

/// Bytes as base64 text.
pub(crate) mod base64_bytes {
    use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
    use serde::{Deserialize, Deserializer, Serializer, de::Error as _};

    pub fn serialize<S: Serializer>(bytes: &[u8], out: S) -> Result<S::Ok, S::Error> {
        out.serialize_str(&BASE64.encode(bytes))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        let text = Option::<String>::deserialize(from)?.unwrap_or_default();
        BASE64.decode(text).map_err(D::Error::custom)
    }
}
