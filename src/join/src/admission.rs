//! Decides who is admitted, and how. Pure: everything that counts is an argument.

use transport::{NodeId, Region, Role};

use crate::{AuthMode, KeyOrigin, Occupant, Refusal, wire::Proven};

/// Everything that counts when an agent wants to become part of a region.
#[derive(Clone, Debug)]
pub(crate) struct Applicant<'a> {
    pub(crate) role: Role,
    pub(crate) region: &'a Region,
    pub(crate) node_id: NodeId,
    pub(crate) name: &'a str,
    pub(crate) certificate: Certificate,
    pub(crate) secret: Secret,
    pub(crate) proven: &'a Proven,
    /// Whether it promised when the region was founded: the founder expects it.
    pub(crate) promised: bool,
}

/// The certificate that a connection was opened with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Certificate {
    /// None.
    Missing,
    /// One of this region, for the agent that asks.
    Own,
    /// One of this region, for another agent.
    Other,
}

/// A token's secret; whether it is good is for the region to say.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Secret {
    Shown,
    Missing,
}

/// What the region is like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Host<'a> {
    pub(crate) region: &'a Region,
    pub(crate) require_token: bool,
    pub(crate) origin: KeyOrigin,
    /// Whether this region issues certificates.
    pub(crate) issues: bool,
    pub(crate) occupant: Occupant,
    /// Who of the region's servers has the applicant's name.
    pub(crate) namesake: Option<NodeId>,
}

/// Decides how an agent is admitted. A token is still to be used.
pub(crate) fn admit(applicant: &Applicant<'_>, host: &Host<'_>) -> Result<AuthMode, Refusal> {
    if applicant.region != host.region {
        return Err(Refusal::WrongRegion { region: host.region.clone() });
    }
    match applicant.certificate {
        Certificate::Own => return check_name(applicant, host).map(|()| AuthMode::Tls),
        Certificate::Other => return Err(Refusal::CertificateRequired),
        Certificate::Missing => {}
    }
    if !host.issues {
        return Err(Refusal::OwnCertificates);
    }
    let auth = judge_proof(applicant, host)?;
    match host.occupant {
        Occupant::Alive => return Err(Refusal::NodeAlive { node_id: applicant.node_id }),
        // Without proof anyone could take the id, and with it what runs there.
        Occupant::Gone if auth == AuthMode::Trust && !applicant.promised => {
            return Err(Refusal::NodeKnown { node_id: applicant.node_id });
        }
        Occupant::Gone | Occupant::Nobody => {}
    }
    check_name(applicant, host)?;
    Ok(auth)
}

fn judge_proof(applicant: &Applicant<'_>, host: &Host<'_>) -> Result<AuthMode, Refusal> {
    if applicant.secret == Secret::Shown {
        return Ok(AuthMode::Token);
    }
    match applicant.proven {
        Proven::OtherKey => return Err(Refusal::KeyWrong),
        // Those who promised were known by the key when no token could be made yet.
        Proven::Key(_) if !host.require_token || applicant.promised => return Ok(AuthMode::Key),
        Proven::Key(_) | Proven::Nothing => {}
    }
    if host.require_token {
        return Err(Refusal::TokenRequired);
    }
    // Nomad's clients know no key, its servers do.
    if applicant.role == Role::Server && host.origin == KeyOrigin::Configured {
        return Err(Refusal::KeyRequired);
    }
    Ok(AuthMode::Trust)
}

fn check_name(applicant: &Applicant<'_>, host: &Host<'_>) -> Result<(), Refusal> {
    let taken = host.namesake.is_some_and(|other| other != applicant.node_id);
    match applicant.role == Role::Server && taken {
        true => Err(Refusal::NameTaken { name: applicant.name.to_owned() }),
        false => Ok(()),
    }
}

/// Decides whether another region's authority may be trusted, and how it proved itself. A token is still to be used.
pub(crate) fn admit_region(
    certificate: Certificate,
    secret: Secret,
    proven: &Proven,
    host: &Host<'_>,
    known: Known,
) -> Result<AuthMode, Refusal> {
    if certificate == Certificate::Own {
        return Ok(AuthMode::Tls);
    }
    if secret == Secret::Shown {
        return Ok(AuthMode::Token);
    }
    match proven {
        Proven::OtherKey => return Err(Refusal::KeyWrong),
        Proven::Key(_) if !host.require_token => return Ok(AuthMode::Key),
        Proven::Key(_) | Proven::Nothing => {}
    }
    if host.require_token {
        return Err(Refusal::TokenRequired);
    }
    match (host.origin, known) {
        (KeyOrigin::Configured, _) => Err(Refusal::KeyRequired),
        (KeyOrigin::Generated, Known::Otherwise(region)) => Err(Refusal::RegionKnown { region }),
        (KeyOrigin::Generated, Known::Unknown | Known::Same) => Ok(AuthMode::Trust),
    }
}

/// Whether a region is trusted already.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Known {
    /// No.
    Unknown,
    /// With the same authority.
    Same,
    /// With another one.
    Otherwise(Region),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RegionKey;

    const NODE: NodeId = NodeId([1; 16]);

    fn here() -> Region {
        Region::new("here").expect("a good name")
    }

    struct Case {
        role: Role,
        secret: Secret,
        proven: Proven,
        promised: bool,
        require_token: bool,
        origin: KeyOrigin,
        occupant: Occupant,
        namesake: Option<NodeId>,
        certificate: Certificate,
        issues: bool,
    }

    /// A client without anything, and a region that demands nothing.
    fn case() -> Case {
        Case {
            role: Role::Client,
            secret: Secret::Missing,
            proven: Proven::Nothing,
            promised: false,
            require_token: false,
            origin: KeyOrigin::Generated,
            occupant: Occupant::Nobody,
            namesake: None,
            certificate: Certificate::Missing,
            issues: true,
        }
    }

    fn verdict(case: Case) -> Result<AuthMode, Refusal> {
        let (region, own) = (here(), here());
        let applicant = Applicant {
            role: case.role,
            region: &region,
            node_id: NODE,
            name: "a",
            certificate: case.certificate,
            secret: case.secret,
            proven: &case.proven,
            promised: case.promised,
        };
        let host = Host {
            region: &own,
            require_token: case.require_token,
            origin: case.origin,
            issues: case.issues,
            occupant: case.occupant,
            namesake: case.namesake,
        };
        admit(&applicant, &host)
    }

    fn key() -> Proven {
        Proven::Key(RegionKey::generate())
    }

    #[test]
    fn proof_is_taken_in_the_order_of_its_strength() {
        assert_eq!(verdict(case()), Ok(AuthMode::Trust));
        assert_eq!(verdict(Case { proven: key(), ..case() }), Ok(AuthMode::Key));
        assert_eq!(verdict(Case { proven: key(), secret: Secret::Shown, ..case() }), Ok(AuthMode::Token));
        assert_eq!(verdict(Case { certificate: Certificate::Own, ..case() }), Ok(AuthMode::Tls));
        assert_eq!(
            verdict(Case { certificate: Certificate::Other, secret: Secret::Shown, ..case() }),
            Err(Refusal::CertificateRequired)
        );
        assert_eq!(verdict(Case { proven: Proven::OtherKey, ..case() }), Err(Refusal::KeyWrong));
        assert_eq!(verdict(Case { issues: false, ..case() }), Err(Refusal::OwnCertificates));
    }

    #[test]
    fn a_region_that_demands_a_token_takes_nothing_less() {
        let demanding = || Case { require_token: true, ..case() };
        assert_eq!(verdict(demanding()), Err(Refusal::TokenRequired));
        assert_eq!(verdict(Case { proven: key(), ..demanding() }), Err(Refusal::TokenRequired));
        assert_eq!(verdict(Case { promised: true, ..demanding() }), Err(Refusal::TokenRequired));
        assert_eq!(verdict(Case { promised: true, proven: key(), ..demanding() }), Ok(AuthMode::Key));
        assert_eq!(verdict(Case { secret: Secret::Shown, ..demanding() }), Ok(AuthMode::Token));
    }

    #[test]
    fn a_server_needs_the_key_that_the_user_gave_and_a_client_does_not() {
        let keyed = |role| Case { role, origin: KeyOrigin::Configured, ..case() };
        assert_eq!(verdict(keyed(Role::Server)), Err(Refusal::KeyRequired));
        assert_eq!(verdict(keyed(Role::Client)), Ok(AuthMode::Trust));
        assert_eq!(verdict(Case { proven: key(), ..keyed(Role::Server) }), Ok(AuthMode::Key));
    }

    #[test]
    fn an_id_that_is_taken_is_not_given_to_strangers() {
        let known = |occupant| Case { occupant, ..case() };
        assert_eq!(verdict(known(Occupant::Gone)), Err(Refusal::NodeKnown { node_id: NODE }));
        assert_eq!(verdict(Case { proven: key(), ..known(Occupant::Gone) }), Ok(AuthMode::Key));
        assert_eq!(verdict(Case { promised: true, ..known(Occupant::Gone) }), Ok(AuthMode::Trust));
        let alive = verdict(Case { secret: Secret::Shown, ..known(Occupant::Alive) });
        assert_eq!(alive, Err(Refusal::NodeAlive { node_id: NODE }));
        let named = |role, other| Case { role, namesake: Some(NodeId([other; 16])), ..case() };
        assert_eq!(verdict(named(Role::Server, 2)), Err(Refusal::NameTaken { name: "a".into() }));
        assert_eq!(verdict(named(Role::Server, 1)), Ok(AuthMode::Trust));
        assert_eq!(verdict(named(Role::Client, 2)), Ok(AuthMode::Trust));
    }

    #[test]
    fn a_region_is_not_replaced_by_a_stranger() {
        let own = here();
        let host = |require_token, origin| Host {
            region: &own,
            require_token,
            origin,
            issues: true,
            occupant: Occupant::Nobody,
            namesake: None,
        };
        let ask = |proven: Proven, known, host: Host<'_>| {
            admit_region(Certificate::Missing, Secret::Missing, &proven, &host, known)
        };
        let open = host(false, KeyOrigin::Generated);
        assert_eq!(ask(Proven::Nothing, Known::Unknown, open), Ok(AuthMode::Trust));
        let other = Known::Otherwise(here());
        assert_eq!(ask(Proven::Nothing, other.clone(), open), Err(Refusal::RegionKnown { region: here() }));
        assert_eq!(ask(key(), other, open), Ok(AuthMode::Key));
        let keyed = host(false, KeyOrigin::Configured);
        assert_eq!(ask(Proven::Nothing, Known::Unknown, keyed), Err(Refusal::KeyRequired));
        let demanding = host(true, KeyOrigin::Configured);
        assert_eq!(ask(key(), Known::Unknown, demanding), Err(Refusal::TokenRequired));
    }
}
