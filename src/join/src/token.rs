use std::{fmt, str::FromStr, time::Duration};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use model::{JoinRole, JoinToken, Timestamp};
use ring::{
    digest::{SHA256, digest},
    rand::{SecureRandom, SystemRandom},
};
use serde::{Deserialize, Serialize};
use transport::{Region, ca::Fingerprint};
use uuid::Uuid;

/// What a token begins with; the digit rises when its content changes.
const PREFIX: &str = "wfj1.";
/// A token is some 130 characters; nothing longer is looked at.
const TEXT_LEN_MAX: usize = 512;
/// Tokens are typed into another machine soon, or baked into an image that is started this month.
const LIFETIME_MAX: Duration = Duration::from_secs(31 * 86_400);
const SECRET_LEN: usize = 24;

/// What lets one agent join: a secret to show once, and the fingerprint of the authority to show it to.
#[derive(Clone, Eq, PartialEq)]
pub struct Token {
    content: Content,
}

#[derive(Clone, Eq, PartialEq, Serialize, Deserialize)]
struct Content {
    secret: [u8; SECRET_LEN],
    authority: [u8; 32],
    role: JoinRole,
    region: Region,
    expires: Timestamp,
}

/// What a token is made of.
#[derive(Clone, Debug)]
pub struct NewToken {
    /// Whose servers may be shown the secret.
    pub authority: Fingerprint,
    /// What it may be used for.
    pub role: JoinRole,
    /// The region that it leads to.
    pub region: Region,
    /// For people.
    pub description: String,
    /// How long it lasts.
    pub lifetime: Duration,
    /// When it is made.
    pub now: Timestamp,
    /// Names it where the secret may not be shown; random.
    pub accessor: Uuid,
}

impl Token {
    /// Makes a token, and the row that the region keeps of it. The secret is in the token alone.
    ///
    /// # Errors
    ///
    /// When the lifetime is zero or longer than 31 days.
    pub fn create(new: NewToken) -> Result<(Self, JoinToken), TokenError> {
        if new.lifetime.is_zero() || new.lifetime > LIFETIME_MAX {
            return Err(TokenError::Lifetime { lifetime: new.lifetime });
        }
        let mut secret = [0; SECRET_LEN];
        SystemRandom::new().fill(&mut secret).expect("the operating system provides entropy");
        let expires = new.now.after(new.lifetime);
        let Fingerprint(authority) = new.authority;
        let content = Content { secret, authority, role: new.role, region: new.region, expires };
        let token = Self { content };
        let row = JoinToken {
            accessor: new.accessor,
            secret_hash: token.secret_hash(),
            role: new.role,
            description: new.description,
            create_time: new.now,
            expires,
            used: None,
            create_index: 0,
            modify_index: 0,
        };
        Ok((token, row))
    }

    /// The text to hand over. Whoever reads it can use it.
    pub fn expose(&self) -> String {
        let bytes = postcard::to_stdvec(&self.content).expect("plain data, and a vector takes it");
        format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes))
    }

    pub(crate) fn expose_secret(&self) -> &[u8; SECRET_LEN] {
        &self.content.secret
    }

    /// What the region knows of the secret.
    pub fn secret_hash(&self) -> [u8; 32] {
        hash_secret(&self.content.secret)
    }

    /// The authority whose servers may be shown the secret.
    pub fn authority(&self) -> Fingerprint {
        Fingerprint(self.content.authority)
    }

    /// What it may be used for.
    pub fn role(&self) -> JoinRole {
        self.content.role
    }

    /// The region that it leads to.
    pub fn region(&self) -> &Region {
        &self.content.region
    }

    /// From then on it is of no use.
    pub fn expires(&self) -> Timestamp {
        self.content.expires
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("role", &self.content.role)
            .field("region", &self.content.region)
            .finish_non_exhaustive()
    }
}

impl FromStr for Token {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let text = text.trim();
        if text.len() > TEXT_LEN_MAX {
            return Err(TokenError::Malformed);
        }
        let encoded = text.strip_prefix(PREFIX).ok_or(TokenError::Malformed)?;
        let bytes = URL_SAFE_NO_PAD.decode(encoded).map_err(|_| TokenError::Malformed)?;
        match postcard::take_from_bytes(&bytes) {
            Ok((content, [])) => Ok(Self { content }),
            Ok(_) | Err(_) => Err(TokenError::Malformed),
        }
    }
}

/// What the region keeps of a secret that was shown.
pub(crate) fn hash_secret(secret: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, secret).as_ref());
    hash
}

/// A text is no token, or none can be made so. Nothing was changed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum TokenError {
    /// Not the text of a token.
    #[error("not a join token: one is printed by 'wayfarer server token create' and begins with '{PREFIX}'")]
    Malformed,
    /// Too long a life.
    #[error("a join token can not last {lifetime:?}, at most 31 days")]
    Lifetime {
        /// What was asked.
        lifetime: Duration,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn create(lifetime: Duration) -> Result<(Token, JoinToken), TokenError> {
        Token::create(NewToken {
            authority: Fingerprint([7; 32]),
            role: JoinRole::Client,
            region: Region::new("eu-west").expect("a good name"),
            description: "for a test".into(),
            lifetime,
            now: Timestamp(5),
            accessor: Uuid::from_u128(1),
        })
    }

    #[test]
    fn a_token_reads_what_it_writes() {
        let (token, row) = create(Duration::from_nanos(4)).expect("short enough");
        let text = token.expose();
        assert!(text.len() < 200, "{text}");
        assert_eq!(text.parse::<Token>(), Ok(token.clone()));
        assert_eq!((row.secret_hash, row.expires), (token.secret_hash(), Timestamp(9)));
        assert!(!format!("{token:?}").contains(&text[8..20]));
        let (other, _) = create(Duration::from_nanos(4)).expect("short enough");
        assert_ne!(other.secret_hash(), token.secret_hash());
    }

    #[test]
    fn rubbish_is_no_token() {
        let (token, _) = create(Duration::from_secs(60)).expect("short enough");
        let text = token.expose();
        for wrong in ["", "wfj1.", "wfj2.AAAA", "wfj1.?!", &text[..text.len() - 2], &format!("{text}AAAA")] {
            assert_eq!(wrong.parse::<Token>(), Err(TokenError::Malformed), "{wrong}");
        }
        assert_eq!("x".repeat(100_000).parse::<Token>(), Err(TokenError::Malformed));
        assert!(create(Duration::ZERO).is_err());
        assert!(create(Duration::from_secs(32 * 86_400)).is_err());
    }
}
