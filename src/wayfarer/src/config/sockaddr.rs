//! Address templates such as `{{ GetInterfaceIP "eth0" }}`, in the manner of go-sockaddr.
//!
//! A template is a source of addresses and steps that they go through, with `|` between. Those that people use are
//! there; any other step is an error that names it.

use std::net::IpAddr;

use regex::Regex;

use super::Machine;

/// A template can not be evaluated.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum TemplateError {
    /// It does not end.
    #[error("address template {template:?} has no closing braces")]
    Unclosed {
        /// The template.
        template: String,
    },
    /// A step that there is not.
    #[error(
        "address template step {step:?} is not known; there are GetPrivateIP, GetPublicIP, GetInterfaceIP, \
         GetAllInterfaces, GetPrivateInterfaces, GetPublicInterfaces, GetDefaultInterfaces, include, exclude, sort, \
         limit, offset, attr and join"
    )]
    Step {
        /// The step.
        step: String,
    },
}

#[derive(Clone, Debug)]
enum Flow {
    Addresses(Vec<(String, IpAddr)>),
    Text(String),
}

/// Evaluates the templates within a text; anything else stays as it is.
///
/// # Errors
///
/// Names the template that can not be evaluated.
pub(super) fn expand(text: &str, machine: &Machine) -> Result<String, TemplateError> {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        out.push_str(before);
        let Some((template, after)) = after.split_once("}}") else {
            return Err(TemplateError::Unclosed { template: text.to_owned() });
        };
        out.push_str(&evaluate(template, machine)?);
        rest = after;
    }
    out.push_str(rest);
    Ok(out.trim().to_owned())
}

fn evaluate(template: &str, machine: &Machine) -> Result<String, TemplateError> {
    let mut flow = Flow::Addresses(Vec::new());
    for step in template.split('|').map(str::trim) {
        let words = words_of(step);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let unknown = || TemplateError::Step { step: step.to_owned() };
        flow = match (words.as_slice(), flow) {
            ([source, args @ ..], Flow::Addresses(list)) => match source_of(source, args, machine) {
                Some(flow) => flow,
                None => filter(&words, list, machine).ok_or_else(unknown)?,
            },
            (_, Flow::Text(_)) | ([], _) => return Err(unknown()),
        };
    }
    Ok(match flow {
        Flow::Text(text) => text,
        Flow::Addresses(list) => joined(&list, "address", " ").unwrap_or_default(),
    })
}

/// Splits at blanks; quotes keep them.
fn words_of(step: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (index, part) in step.split('"').enumerate() {
        match index % 2 {
            0 => words.extend(part.split_whitespace().map(str::to_owned)),
            _ => words.push(part.to_owned()),
        }
    }
    words
}

fn source_of(name: &str, args: &[&str], machine: &Machine) -> Option<Flow> {
    let all = || machine.interfaces.iter().cloned();
    let list =
        |keep: &dyn Fn(&(String, IpAddr)) -> bool| all().filter(|entry| keep(entry)).collect::<Vec<_>>();
    let first = |list: Vec<(String, IpAddr)>| {
        Flow::Text(list.first().map(|(_, ip)| ip.to_string()).unwrap_or_default())
    };
    let every = |list: Vec<(String, IpAddr)>| Flow::Text(joined(&list, "address", " ").unwrap_or_default());
    Some(match (name, args) {
        ("GetPrivateIP", []) => Flow::Text(machine.private_ip().map(|ip| ip.to_string()).unwrap_or_default()),
        ("GetPublicIP", []) => Flow::Text(machine.public_ip().map(|ip| ip.to_string()).unwrap_or_default()),
        ("GetPrivateIPs", []) => every(list(&|(_, ip)| is_private(*ip))),
        ("GetPublicIPs", []) => every(list(&|(_, ip)| is_public(*ip))),
        ("GetInterfaceIP", [name]) => first(list(&|entry| entry.0 == *name)),
        ("GetInterfaceIPs", [name]) => every(list(&|entry| entry.0 == *name)),
        ("GetAllInterfaces", []) => Flow::Addresses(all().collect()),
        ("GetPrivateInterfaces", []) => Flow::Addresses(list(&|(_, ip)| is_private(*ip))),
        ("GetPublicInterfaces", []) => Flow::Addresses(list(&|(_, ip)| is_public(*ip))),
        ("GetDefaultInterfaces", []) => {
            Flow::Addresses(list(&|entry| Some(&entry.0) == machine.default_interface.as_ref()))
        }
        _ => return None,
    })
}

fn filter(words: &[&str], mut list: Vec<(String, IpAddr)>, machine: &Machine) -> Option<Flow> {
    Some(match words {
        ["include", by, what] => {
            let keep = predicate(by, what)?;
            Flow::Addresses(list.into_iter().filter(|entry| keep(entry)).collect())
        }
        ["exclude", by, what] => {
            let keep = predicate(by, what)?;
            Flow::Addresses(list.into_iter().filter(|entry| !keep(entry)).collect())
        }
        ["limit", count] => {
            list.truncate(count.parse().ok()?);
            Flow::Addresses(list)
        }
        ["offset", count] => Flow::Addresses(list.into_iter().skip(count.parse().ok()?).collect()),
        ["sort", keys] => {
            for key in keys.split(',').rev() {
                sort(&mut list, key.trim(), machine)?;
            }
            Flow::Addresses(list)
        }
        ["attr", name] => {
            list.truncate(1);
            Flow::Text(joined(&list, name, "")?)
        }
        ["join", name, between] => Flow::Text(joined(&list, name, between)?),
        _ => return None,
    })
}

type Predicate = Box<dyn Fn(&(String, IpAddr)) -> bool>;

fn predicate(by: &str, what: &str) -> Option<Predicate> {
    let wanted: Vec<String> = what.split('|').map(|word| word.trim().to_ascii_lowercase()).collect();
    Some(match by {
        "name" => {
            let pattern = Regex::new(what).ok()?;
            Box::new(move |entry| pattern.is_match(&entry.0))
        }
        "address" => {
            let pattern = Regex::new(what).ok()?;
            Box::new(move |entry| pattern.is_match(&entry.1.to_string()))
        }
        "network" => {
            let network = what.to_owned();
            Box::new(move |entry| client::fingerprint::network_holds(&network, entry.1))
        }
        "type" => Box::new(move |(_, ip)| {
            wanted.iter().any(|kind| match kind.as_str() {
                "ip" => true,
                "ipv4" => ip.is_ipv4(),
                "ipv6" => ip.is_ipv6(),
                _ => false,
            })
        }),
        "flags" | "flag" => Box::new(move |(_, ip)| {
            wanted.iter().all(|flag| match flag.as_str() {
                "loopback" => ip.is_loopback(),
                "forwardable" => !ip.is_loopback() && !ip.is_multicast(),
                "up" => true,
                _ => false,
            })
        }),
        "rfc" => Box::new(move |(_, ip)| {
            wanted.iter().any(|rfc| match rfc.as_str() {
                "1918" => matches!(ip, IpAddr::V4(ip) if ip.is_private()),
                "6890" => !is_public(*ip),
                _ => false,
            })
        }),
        _ => return None,
    })
}

fn sort(list: &mut [(String, IpAddr)], key: &str, machine: &Machine) -> Option<()> {
    let (down, key) = key.strip_prefix('-').map_or((false, key), |key| (true, key));
    match key.strip_prefix('+').unwrap_or(key) {
        "address" => list.sort_by_key(|entry| entry.1),
        "name" => list.sort_by_key(|entry| entry.0.clone()),
        "type" => list.sort_by_key(|entry| entry.1.is_ipv6()),
        "private" => list.sort_by_key(|entry| !is_private(entry.1)),
        "default" => list.sort_by_key(|entry| Some(&entry.0) != machine.default_interface.as_ref()),
        _ => return None,
    }
    if down {
        list.reverse();
    }
    Some(())
}

fn joined(list: &[(String, IpAddr)], attribute: &str, between: &str) -> Option<String> {
    let text = |(name, ip): &(String, IpAddr)| match attribute {
        "address" => Some(ip.to_string()),
        "name" => Some(name.clone()),
        "type" => Some(if ip.is_ipv4() { "IPv4".to_owned() } else { "IPv6".to_owned() }),
        _ => None,
    };
    Some(list.iter().map(text).collect::<Option<Vec<String>>>()?.join(between))
}

/// Tells whether an address is one of a private network.
pub(super) fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_private() || (ip.octets()[0] == 100 && ip.octets()[1] & 0xc0 == 64),
        IpAddr::V6(ip) => ip.is_unique_local(),
    }
}

/// Tells whether an address means something on one link only.
pub(super) fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

/// Tells whether an address can be reached from anywhere.
pub(super) fn is_public(ip: IpAddr) -> bool {
    let special = match ip {
        IpAddr::V4(ip) => ip.is_documentation() || ip.is_broadcast(),
        IpAddr::V6(_) => false,
    };
    !(special
        || is_link_local(ip)
        || is_private(ip)
        || ip.is_loopback()
        || ip.is_unspecified()
        || ip.is_multicast())
}
