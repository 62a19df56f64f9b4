//! Certificates of the users' own: `tls ca create`, `tls cert create`, and what shows them.

use std::{
    fs,
    io::{self, Write},
    net::IpAddr,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use tls::{
    make::{self, AuthorityWish, LeafWish, Made, Subject},
    read::{self, Certificate},
};

use crate::{
    command::{Command, Context, Failure, Outcome, command},
    flags::{Flag, Kind, flag},
    format,
};

/// Days that an authority is valid, as there.
const AUTHORITY_DAYS: i64 = 1_825;

/// Days that other certificates are.
const LEAF_DAYS: i64 = 365;

/// Days that anything may be valid; beyond it dates can not be written.
const DAYS_MAX: i64 = 100_000;

const DAY: Duration = Duration::from_secs(86_400);

/// What a certificate for a server is good for, as there.
const SERVER_WARNING: &str = "==> WARNING: Server Certificates grants authority to become a
    server and access all state in the cluster including root keys
    and all ACL tokens. Do not distribute them to production hosts
    that are not server nodes. Store them as securely as CA keys.";

const DAYS: Flag = flag("days", Kind::Number, "For how many days it is valid.");
const DOMAIN: Flag = flag("domain", Kind::Text, "Domain of the cluster; `nomad` unless set.");

/// The commands of this file.
pub const COMMANDS: &[Command] = &[
    command!(
        "tls ca create",
        "[options]",
        "Make an authority for the cluster's certificates.",
        &[
            flag("additional-domain", Kind::List, "A further domain that it may certify; may be repeated."),
            flag("common-name", Kind::Text, "Its name."),
            flag("country", Kind::Text, "Country in its name."),
            flag("postal-code", Kind::Text, "Postal code in its name."),
            flag("province", Kind::Text, "Province in its name."),
            flag("locality", Kind::Text, "Locality in its name."),
            flag("street-address", Kind::Text, "Street address in its name."),
            flag("organization", Kind::Text, "Organization in its name."),
            flag("organizational-unit", Kind::Text, "Organizational unit in its name."),
            flag("name-constraint", Kind::Bool, "Let it certify its domains only, localhost among them."),
            DAYS,
            DOMAIN,
        ],
        create_authority
    ),
    command!(
        "tls cert create",
        "[options]",
        "Have the authority certify an agent or a user.",
        &[
            flag("server", Kind::Bool, "For a server."),
            flag("client", Kind::Bool, "For a client."),
            flag("cli", Kind::Bool, "For whoever calls the API."),
            flag("ca", Kind::Text, "The authority's certificate; `<domain>-agent-ca.pem` unless set."),
            flag("key", Kind::Text, "The authority's key; `<domain>-agent-ca-key.pem` unless set."),
            flag("additional-dnsname", Kind::List, "A further name that it is valid for; may be repeated."),
            flag(
                "additional-ipaddress",
                Kind::List,
                "A further address that it is valid for; may be repeated."
            ),
            flag("cluster-region", Kind::Text, "The same as -region."),
            DAYS,
            DOMAIN,
        ],
        create_certificate
    ),
    command!("tls ca info", "<CA file>", "Show what an authority's certificate says.", &[], authority_info),
    command!("tls cert info", "<certificate file>", "Show what a certificate says.", &[], certificate_info),
];

async fn create_authority(context: &Context) -> Outcome {
    context.no_args()?;
    let domain = domain(context);
    let constrained = context.on("name-constraint");
    let additional = context.flags.list("additional-domain");
    if !constrained && !additional.is_empty() {
        return Err(Failure::usage("Please provide the -name-constraint flag to use -additional-domain"));
    }
    let mut domains = Vec::new();
    if constrained {
        domains.extend([domain.clone(), "localhost".to_owned()]);
        domains.extend(additional.iter().cloned());
    }
    let subject = Subject {
        country: context.text("country").to_owned(),
        postal_code: context.text("postal-code").to_owned(),
        province: context.text("province").to_owned(),
        locality: context.text("locality").to_owned(),
        street_address: context.text("street-address").to_owned(),
        organization: or(context, "organization", "Wayfarer"),
        organizational_unit: context.text("organizational-unit").to_owned(),
    };
    let wish = AuthorityWish {
        // Two authorities of one name could not be told apart, so the usual one has a number.
        common_name: or(context, "common-name", &format!("Wayfarer Agent CA {}", format::now())),
        subject,
        domains,
        lifetime: lifetime(context, AUTHORITY_DAYS)?,
        now: now(),
    };
    let (certificate, key) = (format!("{domain}-agent-ca.pem"), format!("{domain}-agent-ca-key.pem"));
    let made = make::authority(&wish).map_err(|error| Failure::new(error.to_string()))?;
    keep(&made, Path::new(&certificate), Path::new(&key))?;
    context.console.out(&format!("==> CA certificate saved to: {certificate}"));
    context.console.out(&format!("==> CA certificate key saved to: {key}"));
    Ok(0)
}

async fn create_certificate(context: &Context) -> Outcome {
    context.no_args()?;
    let kinds = ["server", "client", "cli"];
    let mut chosen = kinds.into_iter().filter(|kind| context.on(kind));
    let (Some(kind), None) = (chosen.next(), chosen.next()) else {
        return Err(Failure::usage("Please provide exactly one of -server, -client or -cli"));
    };
    let domain = domain(context);
    let region = [context.text("cluster-region"), &context.globals.config.region];
    let region = region.into_iter().find(|region| !region.is_empty()).unwrap_or("global");
    let ca_file = PathBuf::from(or(context, "ca", &format!("{domain}-agent-ca.pem")));
    let ca_key = PathBuf::from(or(context, "key", &format!("{domain}-agent-ca-key.pem")));
    let read = |what: &str, path: &Path| {
        fs::read_to_string(path)
            .map_err(|error| Failure::new(format!("Error reading {what} {}: {error}", path.display())))
    };
    let (authority, authority_key) = (read("CA", &ca_file)?, read("CA key", &ca_key)?);
    let mut dns_names = vec!["localhost".to_owned()];
    dns_names.extend(context.flags.list("additional-dnsname").iter().cloned());
    let mut ip_addresses = vec![IpAddr::from([127, 0, 0, 1])];
    for text in context.flags.list("additional-ipaddress") {
        let address = text.parse().map_err(|_| Failure::usage(format!("{text:?} is no IP address")))?;
        ip_addresses.push(address);
    }
    let wish = LeafWish {
        common_name: format!("{kind}.{region}.{domain}"),
        dns_names,
        ip_addresses,
        serves: kind != "cli",
        lifetime: lifetime(context, LEAF_DAYS)?,
        now: now(),
    };
    let made = make::leaf(&ca_file, &authority, &authority_key, &wish);
    let made = made.map_err(|error| Failure::new(error.to_string()))?;
    let (certificate, key) =
        (format!("{region}-{kind}-{domain}.pem"), format!("{region}-{kind}-{domain}-key.pem"));
    keep(&made, Path::new(&certificate), Path::new(&key))?;
    if kind == "server" {
        context.console.out(SERVER_WARNING);
    }
    let (ca_file, ca_key) = (ca_file.display(), ca_key.display());
    context.console.out(&format!("==> Using CA file {ca_file} and CA key {ca_key}"));
    let title = match kind {
        "server" => "Server",
        "client" => "Client",
        _ => "Cli",
    };
    context.console.out(&format!("==> {title} Certificate saved to: {certificate}"));
    context.console.out(&format!("==> {title} Certificate key saved to: {key}"));
    Ok(0)
}

async fn authority_info(context: &Context) -> Outcome {
    let certificate = shown(context)?;
    let domains = ("Permitted DNS Domains", format!("[{}]", certificate.permitted_domains.join(" ")));
    print(context, certificate, [domains])
}

async fn certificate_info(context: &Context) -> Outcome {
    let certificate = shown(context)?;
    let addresses: Vec<String> = certificate.ip_addresses.iter().map(IpAddr::to_string).collect();
    let names = ("DNS Names", format!("[{}]", certificate.dns_names.join(" ")));
    print(context, certificate, [names, ("IP Addresses", format!("[{}]", addresses.join(" ")))])
}

/// Reads the certificate that the call names.
fn shown(context: &Context) -> Result<Certificate, Failure> {
    let [file] = context.args.as_slice() else {
        return Err(Failure::usage("This command takes one argument: <certificate file>"));
    };
    let text = fs::read(file).map_err(|error| Failure::new(format!("Error reading {file}: {error}")))?;
    read::certificate(Path::new(file), &text).map_err(|error| Failure::new(error.to_string()))
}

fn print<const N: usize>(context: &Context, certificate: Certificate, more: [(&str, String); N]) -> Outcome {
    let mut rows = vec![
        ("Serial Number", certificate.serial_number),
        ("Issuer CN", certificate.issuer),
        ("Common Name", certificate.subject),
        ("Expiry Date", certificate.expires),
    ];
    rows.extend(more);
    let rows: Vec<_> = rows.into_iter().map(|(name, value)| [name.to_owned(), value]).collect();
    context.console.out(&format::lines(&rows));
    Ok(0)
}

fn or(context: &Context, flag: &str, usual: &str) -> String {
    context.flags.text(flag).unwrap_or(usual).to_owned()
}

fn domain(context: &Context) -> String {
    or(context, "domain", "nomad")
}

fn lifetime(context: &Context, usual: i64) -> Result<Duration, Failure> {
    let days = context.flags.number("days").unwrap_or(usual);
    match u32::try_from(days) {
        Ok(count) if days > 0 && days <= DAYS_MAX => Ok(DAY * count),
        Ok(_) | Err(_) => Err(Failure::usage(format!("-days must be between 1 and {DAYS_MAX}"))),
    }
}

/// Time since the Unix epoch.
fn now() -> Duration {
    Duration::from_nanos(u64::try_from(format::now()).unwrap_or(0))
}

/// Writes both files. One that is there is somebody's certificate, which is not to be lost.
fn keep(made: &Made, certificate: &Path, key: &Path) -> Result<(), Failure> {
    for path in [certificate, key] {
        if path.exists() {
            return Err(Failure::new(format!("file {} already exists", path.display())));
        }
    }
    write(key, &made.key, 0o600)?;
    write(certificate, &made.certificate, 0o644)
}

fn write(path: &Path, text: &str, mode: u32) -> Result<(), Failure> {
    let written = || -> io::Result<()> {
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    written().map_err(|error| Failure::new(format!("Error writing {}: {error}", path.display())))
}
