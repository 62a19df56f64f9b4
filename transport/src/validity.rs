//! Reads from when until when a certificate is valid. The libraries that judge certificates do not tell.

use std::time::Duration;

use rustls_pki_types::{CertificateDer, pem::PemObject};

use crate::credentials::CredentialsError;

const SEQUENCE: u8 = 0x30;
const EXPLICIT_VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// From when until when a certificate is valid, as time since the Unix epoch.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Validity {
    /// From then on.
    pub not_before: Duration,
    /// Up to and including this second.
    pub not_after: Duration,
}

impl Validity {
    /// Reads the first certificate of a PEM text. Whether it is to be trusted is not looked at.
    ///
    /// # Errors
    ///
    /// When there is none, or it can not be read.
    pub fn of_pem(pem: &str) -> Result<Self, CredentialsError> {
        let certificate = CertificateDer::from_pem_slice(pem.as_bytes())
            .map_err(|error| CredentialsError::Read { what: "certificate", why: error.to_string() })?;
        Self::of_der(&certificate)
    }

    /// The first moment at which it is not valid any more.
    pub fn end(&self) -> Duration {
        self.not_after + Duration::from_secs(1)
    }

    pub(crate) fn of_der(der: &[u8]) -> Result<Self, CredentialsError> {
        read(der)
            .ok_or(CredentialsError::Read { what: "certificate", why: "its times are unreadable".into() })
    }
}

/// Certificate, to-be-signed part, then past version, serial number, algorithm and issuer.
fn read(der: &[u8]) -> Option<Validity> {
    let (_, certificate, _) = element(der)?;
    let (_, mut rest, _) = element(certificate)?;
    if rest.first() == Some(&EXPLICIT_VERSION) {
        rest = element(rest)?.2;
    }
    for _ in ["serial number", "algorithm", "issuer"] {
        rest = element(rest)?.2;
    }
    let (SEQUENCE, times, _) = element(rest)? else { return None };
    let (first_tag, first, rest) = element(times)?;
    let (second_tag, second, _) = element(rest)?;
    Some(Validity { not_before: time(first_tag, first)?, not_after: time(second_tag, second)? })
}

/// Splits off the first element: its tag, its content, and what follows it.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&short, rest) = rest.split_first()?;
    let (len, rest) = match short {
        0..=0x7f => (usize::from(short), rest),
        0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(short & 0x7f))?;
            (digits.iter().fold(0, |len, digit| len << 8 | usize::from(*digit)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(len)?;
    Some((tag, content, rest))
}

/// `YYMMDDhhmmssZ` or `YYYYMMDDhhmmssZ`.
fn time(tag: u8, text: &[u8]) -> Option<Duration> {
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    let (year, rest) = match tag {
        UTC_TIME => {
            let year: i64 = text.get(..2)?.parse().ok()?;
            (if year < 50 { 2000 + year } else { 1900 + year }, text.get(2..)?)
        }
        GENERALIZED_TIME => (text.get(..4)?.parse().ok()?, text.get(4..)?),
        _ => return None,
    };
    if rest.len() != 10 || !rest.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let field = |at: usize| rest[at..at + 2].parse::<i64>().ok();
    let (month, day) = (field(0)?, field(2)?);
    let seconds = field(4)? * 3_600 + field(6)? * 60 + field(8)?;
    // Before 1970 is as good as 1970: nothing of ours was valid then.
    u64::try_from(days_since_epoch(year, month, day) * 86_400 + seconds).ok().map(Duration::from_secs)
}

/// Counts days in a calendar that begins in March, where the leap day is the last of the year.
fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ca::{Authority, Leaf, LeafKey},
        identity::{Identity, NodeId, Region, Role},
    };

    #[test]
    fn what_is_issued_is_read_back() {
        let region = Region::new("here").expect("a good name");
        for now in [1_709_164_800, 1_800_000_000, 2_540_000_000] {
            let now = Duration::from_secs(now);
            let authority =
                Authority::make(region.clone(), Duration::from_secs(86_400), now).expect("entropy");
            let identity = Identity {
                role: Role::Client,
                region: region.clone(),
                node_id: NodeId([1; 16]),
                name: "a".into(),
            };
            let leaf = Leaf::for_agent(identity, Duration::from_secs(90));
            let key = LeafKey::generate().expect("entropy");
            let pem = authority.issue(&leaf, &key.public(), now).expect("its own region");
            let validity = Validity::of_pem(&pem).expect("just issued");
            assert_eq!(validity.not_after, now + Duration::from_secs(90));
            assert_eq!(validity.not_before, now - Duration::from_secs(3_600));
        }
    }

    #[test]
    fn rubbish_has_no_validity() {
        for rubbish in [&[][..], &[0x30], &[0x30, 0x84, 255, 255, 255, 255], &[0x30, 2, 0x30, 0]] {
            assert!(Validity::of_der(rubbish).is_err());
        }
        assert!(Validity::of_pem("-----BEGIN").is_err());
    }
}
