//! What a certificate says: `tls ca info` and `tls cert info`.

use std::{
    fmt::Write as _,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::Path,
};

use rustls_pki_types::{CertificateDer, pem::PemObject};

use crate::{
    TlsError,
    der::{INTEGER, OBJECT_ID, OCTETS, SEQUENCE, SET, TIME, UTC_TIME, object_id, take, take_any},
};

/// Ids of extensions.
const ALTERNATIVE_NAMES: [u64; 4] = [2, 5, 29, 17];
const NAME_CONSTRAINTS: [u64; 4] = [2, 5, 29, 30];

/// Tags within certificates.
const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;
const PERMITTED: u8 = 0xa0;
const DNS_NAME: u8 = 0x82;
const IP_ADDRESS: u8 = 0x87;

const COMMON_NAME: [u64; 4] = [2, 5, 4, 3];

/// Parts of names in the order in which they are shown, with their short names.
const PARTS: [([u64; 4], &str); 8] = [
    (COMMON_NAME, "CN"),
    ([2, 5, 4, 11], "OU"),
    ([2, 5, 4, 10], "O"),
    ([2, 5, 4, 17], "POSTALCODE"),
    ([2, 5, 4, 9], "STREET"),
    ([2, 5, 4, 7], "L"),
    ([2, 5, 4, 8], "ST"),
    ([2, 5, 4, 6], "C"),
];

/// What a certificate says, for a person to read. Nothing of it is checked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Certificate {
    /// Its number, in decimal digits.
    pub serial_number: String,
    /// The common name of who signed it.
    pub issuer: String,
    /// Whom it is for: all parts of the name.
    pub subject: String,
    /// The last moment at which it is valid, as `2027-11-13 21:37:38 +0000 UTC`.
    pub expires: String,
    /// Names that it is valid for.
    pub dns_names: Vec<String>,
    /// Addresses that it is valid for.
    pub ip_addresses: Vec<IpAddr>,
    /// The only domains that it may certify.
    pub permitted_domains: Vec<String>,
}

/// Reads the first certificate of a PEM text.
///
/// # Errors
///
/// When there is none in it, or none that can be read.
pub fn certificate(path: &Path, text: &[u8]) -> Result<Certificate, TlsError> {
    let der = CertificateDer::from_pem_slice(text);
    let der = der.map_err(|_| TlsError::Missing { path: path.to_owned(), what: "certificate" })?;
    let why = || "its certificate is not one that can be read".to_owned();
    read(&der).ok_or_else(|| TlsError::Unusable { path: path.to_owned(), why: why() })
}

fn read(der: &[u8]) -> Option<Certificate> {
    let (whole, _) = take(der, SEQUENCE)?;
    let (signed, _) = take(whole, SEQUENCE)?;
    let rest = take(signed, VERSION).map_or(signed, |(_, rest)| rest);
    let (serial, rest) = take(rest, INTEGER)?;
    let (_, rest) = take(rest, SEQUENCE)?;
    let (issuer, rest) = take(rest, SEQUENCE)?;
    let (validity, rest) = take(rest, SEQUENCE)?;
    let (subject, rest) = take(rest, SEQUENCE)?;
    let (_, _, not_after) = take_any(validity)?;
    let mut certificate = Certificate {
        serial_number: decimal(serial),
        issuer: parts(issuer)?.into_iter().find(|(id, _)| *id == COMMON_NAME).unwrap_or_default().1,
        subject: shown(parts(subject)?),
        expires: time(not_after)?,
        dns_names: Vec::new(),
        ip_addresses: Vec::new(),
        permitted_domains: Vec::new(),
    };
    let mut rest = rest;
    while let Some((tag, content, after)) = take_any(rest) {
        if tag == EXTENSIONS {
            read_extensions(take(content, SEQUENCE)?.0, &mut certificate)?;
        }
        rest = after;
    }
    Some(certificate)
}

fn read_extensions(mut list: &[u8], certificate: &mut Certificate) -> Option<()> {
    while !list.is_empty() {
        let (extension, rest) = take(list, SEQUENCE)?;
        list = rest;
        let (id, mut value) = take(extension, OBJECT_ID)?;
        // Whether it is critical may stand in between.
        if value.first() != Some(&OCTETS) {
            value = take_any(value)?.2;
        }
        let (value, _) = take(value, OCTETS)?;
        let id = object_id(id)?;
        if id == ALTERNATIVE_NAMES {
            let mut names = take(value, SEQUENCE)?.0;
            while let Some((tag, content, rest)) = take_any(names) {
                match tag {
                    DNS_NAME => certificate.dns_names.push(String::from_utf8_lossy(content).into_owned()),
                    IP_ADDRESS => certificate.ip_addresses.extend(address(content)),
                    _ => {}
                }
                names = rest;
            }
        } else if id == NAME_CONSTRAINTS {
            let Some((mut trees, _)) = take(take(value, SEQUENCE)?.0, PERMITTED) else { continue };
            while let Some((tree, rest)) = take(trees, SEQUENCE) {
                let domain = take(tree, DNS_NAME).map(|(name, _)| String::from_utf8_lossy(name).into_owned());
                certificate.permitted_domains.extend(domain);
                trees = rest;
            }
        }
    }
    Some(())
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let four = <[u8; 4]>::try_from(bytes).map(|bytes| Ipv4Addr::from(bytes).into());
    four.or_else(|_| <[u8; 16]>::try_from(bytes).map(|bytes| Ipv6Addr::from(bytes).into())).ok()
}

/// Lists the parts of a name, in the order of the certificate.
fn parts(mut content: &[u8]) -> Option<Vec<(Vec<u64>, String)>> {
    let mut parts = Vec::new();
    while !content.is_empty() {
        let (mut set, rest) = take(content, SET)?;
        while !set.is_empty() {
            let (pair, others) = take(set, SEQUENCE)?;
            let (id, value) = take(pair, OBJECT_ID)?;
            let (_, text, _) = take_any(value)?;
            parts.push((object_id(id)?, String::from_utf8_lossy(text).into_owned()));
            set = others;
        }
        content = rest;
    }
    Some(parts)
}

/// Writes a name as RFC 2253 does, with what is best known first.
fn shown(mut parts: Vec<(Vec<u64>, String)>) -> String {
    let place = |id: &[u64]| PARTS.iter().position(|(known, _)| known == id);
    parts.sort_by_key(|(id, _)| place(id).unwrap_or(PARTS.len()));
    let mut text = String::new();
    for (id, value) in parts {
        if !text.is_empty() {
            text.push(',');
        }
        match place(&id) {
            Some(at) => text.push_str(PARTS[at].1),
            None => text.push_str(&id.iter().map(u64::to_string).collect::<Vec<_>>().join(".")),
        }
        text.push('=');
        let last = value.chars().count().saturating_sub(1);
        for (at, character) in value.chars().enumerate() {
            let escaped = match character {
                ',' | '+' | '"' | '\\' | '<' | '>' | ';' => true,
                '#' => at == 0,
                ' ' => at == 0 || at == last,
                _ => false,
            };
            if escaped {
                text.push('\\');
            }
            text.push(character);
        }
    }
    text
}

/// Writes a number that is too long for the numbers of this machine. Serial numbers are positive.
fn decimal(bytes: &[u8]) -> String {
    // Limbs of nine digits, the lowest first.
    let mut limbs = vec![0_u64];
    for byte in bytes {
        let mut carry = u64::from(*byte);
        for limb in &mut limbs {
            let value = *limb * 256 + carry;
            (*limb, carry) = (value % 1_000_000_000, value / 1_000_000_000);
        }
        if carry > 0 {
            limbs.push(carry);
        }
    }
    let mut text = limbs.pop().unwrap_or_default().to_string();
    for limb in limbs.iter().rev() {
        // Writing into a text does not fail.
        let _ = write!(text, "{limb:09}");
    }
    text
}

fn time(bytes: &[u8]) -> Option<String> {
    let (tag, text, _) = take_any(bytes)?;
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    let text = match tag {
        // Two digits of a year are those of 1950 to 2049.
        UTC_TIME if text.get(..2)? < "50" => format!("20{text}"),
        UTC_TIME => format!("19{text}"),
        TIME => text.to_owned(),
        _ => return None,
    };
    if text.len() != 14 || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (date, clock) = text.split_at(8);
    Some(format!(
        "{}-{}-{} {}:{}:{} +0000 UTC",
        &date[..4],
        &date[4..6],
        &date[6..],
        &clock[..2],
        &clock[2..4],
        &clock[4..]
    ))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rustls_pki_types::PrivatePkcs8KeyDer;

    use super::*;
    use crate::make::{self, AuthorityWish, LeafWish, Made, Subject};

    fn authority() -> Made {
        let subject = Subject {
            country: "DE".to_owned(),
            organization: "Ours, and theirs".to_owned(),
            ..Subject::default()
        };
        let wish = AuthorityWish {
            common_name: "An Authority".to_owned(),
            subject,
            domains: vec!["foo.com".to_owned(), "localhost".to_owned()],
            lifetime: Duration::from_secs(60),
            now: Duration::from_secs(1_000_000_000),
        };
        make::authority(&wish).expect("it can be made")
    }

    fn leaf(authority: &str, key: &str) -> Result<Made, TlsError> {
        let wish = LeafWish {
            common_name: "cli.global.nomad".to_owned(),
            dns_names: vec!["localhost".to_owned()],
            ip_addresses: vec![[127, 0, 0, 1].into(), Ipv6Addr::LOCALHOST.into()],
            serves: false,
            lifetime: Duration::from_secs(60),
            now: Duration::from_secs(3_000_000_000),
        };
        make::leaf(Path::new("ca.pem"), authority, key, &wish)
    }

    #[test]
    fn what_was_wished_is_read_again() {
        let authority = authority();
        let read = certificate(Path::new("ca.pem"), authority.certificate.as_bytes()).expect("a certificate");
        assert_eq!(read.subject, "CN=An Authority,O=Ours\\, and theirs,C=DE");
        assert_eq!(read.issuer, "An Authority");
        assert_eq!(read.expires, "2001-09-09 01:47:40 +0000 UTC");
        assert_eq!(read.permitted_domains, ["foo.com", "localhost"]);
        assert_eq!((&read.dns_names[..], &read.ip_addresses[..]), (&[][..], &[][..]));
        let leaf = leaf(&authority.certificate, &authority.key).expect("it can be made");
        let read = certificate(Path::new("leaf.pem"), leaf.certificate.as_bytes()).expect("a certificate");
        assert_eq!((read.subject.as_str(), read.issuer.as_str()), ("CN=cli.global.nomad", "An Authority"));
        assert_eq!(read.expires, "2065-01-24 05:21:00 +0000 UTC", "beyond 2049 years have four digits");
        assert_eq!(read.dns_names, ["cli.global.nomad", "localhost"]);
        assert_eq!(read.ip_addresses, [IpAddr::from([127, 0, 0, 1]), Ipv6Addr::LOCALHOST.into()]);
        assert!(
            read.serial_number.len() > 10 && read.serial_number.bytes().all(|byte| byte.is_ascii_digit())
        );
        let cut = &authority.certificate.as_bytes()[..100];
        assert!(matches!(certificate(Path::new("cut"), cut), Err(TlsError::Missing { .. })));
        let key = certificate(Path::new("key"), authority.key.as_bytes());
        assert!(matches!(key, Err(TlsError::Missing { .. })));
    }

    #[test]
    fn a_certificate_that_is_cut_anywhere_is_refused() {
        let authority = authority();
        let der = CertificateDer::from_pem_slice(authority.certificate.as_bytes()).expect("it was made");
        assert!(read(&der).is_some());
        for length in 0..der.len() {
            assert_eq!(read(&der[..length]), None, "cut at {length}");
        }
    }

    #[test]
    fn long_numbers_are_written_in_decimal() {
        assert_eq!(decimal(&[]), "0");
        assert_eq!(decimal(&[0, 255]), "255");
        assert_eq!(decimal(&u64::MAX.to_be_bytes()), u64::MAX.to_string());
        assert_eq!(decimal(&(u128::MAX - 5).to_be_bytes()), (u128::MAX - 5).to_string());
    }

    #[test]
    fn an_authority_with_a_key_of_the_older_form_signs() {
        let authority = authority();
        let key = PrivatePkcs8KeyDer::from_pem_slice(authority.key.as_bytes()).expect("a key");
        // PKCS #8 is a version, an algorithm, and the older form.
        let (content, _) = take(key.secret_pkcs8_der(), SEQUENCE).expect("a sequence");
        let (_, rest) = take(content, INTEGER).expect("a version");
        let (_, rest) = take(rest, SEQUENCE).expect("an algorithm");
        let (older, _) = take(rest, OCTETS).expect("the key");
        let key = pem("EC PRIVATE KEY", older);
        let made = leaf(&authority.certificate, &key).expect("the key is understood");
        assert!(made.certificate.contains("BEGIN CERTIFICATE"));
        let other = self::authority();
        let refused = leaf(&other.certificate, &key);
        assert!(
            matches!(&refused, Err(TlsError::Unusable { why, .. }) if why.contains("not that of")),
            "{refused:?}"
        );
        let nonsense = pem("EC PRIVATE KEY", &older[..20]);
        assert!(matches!(leaf(&authority.certificate, &nonsense), Err(TlsError::Unusable { .. })));
    }

    /// Writes PEM: base64 in lines.
    fn pem(label: &str, der: &[u8]) -> String {
        const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let mut text = String::new();
        for three in der.chunks(3) {
            let bits = three.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte))
                << (8 * (3 - three.len()));
            for at in 0..4 {
                let letter = LETTERS[(bits >> (18 - 6 * at) & 63) as usize] as char;
                text.push(if at <= three.len() { letter } else { '=' });
            }
        }
        let lines: Vec<&str> =
            text.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
        format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
    }
}
