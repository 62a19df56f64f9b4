//! The keys of the `consul`, `vault` and `ui` blocks.

use super::*;
use crate::config::{
    section::{Field, Problem, Reader, Section, Support, read_section},
    tree::Entry,
};

/// Sections that are told apart by a key of their own, `name`.
#[derive(Clone, Debug, Default)]
pub(in crate::config) struct Named<S>(pub BTreeMap<String, S>);

/// A section with a name in it.
pub(in crate::config) trait HasName {
    /// The name that it has unless it says another.
    fn name(&self) -> String;
}

impl<S: Section + HasName> Field for Named<S> {
    fn read(found: &[&Entry], path: &str, reader: &mut Reader) -> Result<Self, Problem> {
        let mut all = Self(BTreeMap::new());
        for entry in found {
            let Some(objects) = entry.value.objects() else {
                let what = "expected a block".to_owned();
                return Err(Problem::Type { path: path.to_owned(), at: entry.at, what });
            };
            for object in objects {
                let section: S = read_section(&[object], path, reader)?;
                all.merge(Self(BTreeMap::from([(section.name(), section)])));
            }
        }
        Ok(all)
    }

    fn merge(&mut self, later: Self) {
        for (name, section) in later.0 {
            match self.0.get_mut(&name) {
                Some(known) => known.absorb(section),
                None => _ = self.0.insert(name, section),
            }
        }
    }

    fn show(&self, default: &serde_json::Value) -> serde_json::Value {
        let standard = default.get(0).cloned().unwrap_or_default();
        let mut list: Vec<serde_json::Value> =
            self.0.values().map(|section| section.show(&standard)).collect();
        if !standard.is_null() && !self.0.contains_key("default") {
            list.insert(0, standard);
        }
        list.into()
    }

    fn note(&self, path: &str, notes: &mut Vec<(String, Support)>) {
        for section in self.0.values() {
            section.note_keys(path, notes);
        }
    }
}

macro_rules! has_name {
    ($name:ident) => {
        impl HasName for $name {
            fn name(&self) -> String {
                self.name.clone().unwrap_or_else(|| "default".to_owned())
            }
        }
    };
}
has_name!(RawConsul);
has_name!(RawVault);

section! {
    /// Consul.
    RawConsul {
        name: String => "Name";
        address: String => "Addr";
        auth: Secret => "Auth";
        token: Secret => "Token";
        ssl: bool => "EnableSSL";
        share_ssl: bool => "ShareSSL";
        verify_ssl: bool => "VerifySSL";
        ca_file: String => "CAFile";
        cert_file: String => "CertFile";
        key_file: String => "KeyFile";
        grpc_address: String => "GRPCAddr";
        grpc_ca_file: String => "GRPCCAFile";
        namespace: String => "Namespace";
        timeout: Span => "Timeout";
        auto_advertise: bool => "AutoAdvertise";
        server_service_name: String => "ServerServiceName";
        server_http_check_name: String => "ServerHTTPCheckName";
        server_serf_check_name: String => "ServerSerfCheckName";
        server_rpc_check_name: String => "ServerRPCCheckName";
        server_failures_before_critical: i64 => "ServerFailuresBeforeCritical";
        server_failures_before_warning: i64 => "ServerFailuresBeforeWarning";
        server_auto_join: bool => "ServerAutoJoin";
        client_service_name: String => "ClientServiceName";
        client_http_check_name: String => "ClientHTTPCheckName";
        client_failures_before_critical: i64 => "ClientFailuresBeforeCritical";
        client_failures_before_warning: i64 => "ClientFailuresBeforeWarning";
        client_auto_join: bool => "ClientAutoJoin";
        checks_use_advertise: bool => "ChecksUseAdvertise";
        tags: Vec<String> => "Tags";
        allow_unauthenticated: bool => "";
        service_identity: RawIdentity => "ServiceIdentity";
        task_identity: RawIdentity => "TaskIdentity";
        service_auth_method: String => "ServiceIdentityAuthMethod";
        task_auth_method: String => "TaskIdentityAuthMethod";
    }
}

section! {
    /// What a workload's identity is for.
    RawIdentity {
        aud: Vec<String> => "Audience";
        env: bool => "Env";
        file: bool => "File";
        filepath: String => "Filepath";
        ttl: String => "TTL";
        extra_claims: BTreeMap<String, String> => "ExtraClaims";
    }
}

section! {
    /// Vault.
    RawVault {
        name: String => "Name";
        enabled: bool => "Enabled";
        address: String => "Addr";
        token: Secret => "Token";
        create_from_role: String => "Role";
        task_token_ttl: String => "";
        allow_unauthenticated: bool => "";
        jwt_auth_backend_path: String => "JWTAuthBackendPath";
        namespace: String => "Namespace";
        ca_file: String => "TLSCaFile";
        ca_path: String => "TLSCaPath";
        cert_file: String => "TLSCertFile";
        key_file: String => "TLSKeyFile";
        tls_server_name: String => "TLSServerName";
        tls_skip_verify: bool => "TLSSkipVerify";
        default_identity: RawIdentity => "DefaultIdentity";
    }
}

section! {
    /// The web interface.
    RawUi {
        enabled: bool => "Enabled";
        show_cli_hints: bool => "ShowCLIHints";
        content_security_policy: RawContentPolicy => "ContentSecurityPolicy" [Later];
        consul: RawUiLink => "Consul";
        vault: RawUiLink => "Vault";
        label: RawUiLabel => "Label";
    }
}

section! {
    /// A link in the web interface.
    RawUiLink {
        ui_url: String => "BaseUIURL";
    }
}

section! {
    /// A word that tells one region's web interface from another's.
    RawUiLabel {
        text: String => "Text";
        background_color: String => "BackgroundColor";
        text_color: String => "TextColor";
    }
}

section! {
    /// What a browser may load.
    RawContentPolicy {
        connect_src: Vec<String> => "ConnectSrc";
        default_src: Vec<String> => "DefaultSrc";
        form_action: Vec<String> => "FormAction";
        frame_ancestors: Vec<String> => "FrameAncestors";
        img_src: Vec<String> => "ImgSrc";
        script_src: Vec<String> => "ScriptSrc";
        style_src: Vec<String> => "StyleSrc";
    }
}
