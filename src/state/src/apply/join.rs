use std::{sync::Arc, time::Duration};

use model::{JoinRole, JoinSettings, JoinToken, JoinTokenUse, Text, Timestamp, TrustedRegion};
use uuid::Uuid;

use super::Writer;
use crate::{ChangedRow, Refusal};

/// Tokens are made by hand or by a script for a wave of machines; more than this is a script gone wild.
const JOIN_TOKENS_MAX: usize = 10_000;
/// How long an expired token still says who used it.
const EXPIRED_TOKEN_KEPT: Duration = Duration::from_secs(72 * 3_600);

impl Writer<'_> {
    /// Makes a token, and forgets those that expired long ago: there is no other place where their number grows.
    pub(super) fn create_join_token(&mut self, token: &JoinToken) -> Result<(), Refusal> {
        self.collect_join_tokens(token.create_time);
        let same = |known: &Arc<JoinToken>| {
            known.accessor == token.accessor || known.secret_hash == token.secret_hash
        };
        if let Some(known) = self.state.join_tokens().find(|known| same(known)) {
            return Err(Refusal::JoinTokenExists { accessor: known.accessor });
        }
        if self.state.join_tokens.len() >= JOIN_TOKENS_MAX {
            return Err(Refusal::JoinTokensFull { max: JOIN_TOKENS_MAX });
        }
        let token =
            JoinToken { create_index: self.index, modify_index: self.index, used: None, ..token.clone() };
        self.note(ChangedRow::JoinToken(token.accessor));
        self.state.join_tokens.insert(token.accessor, Arc::new(token));
        Ok(())
    }

    fn collect_join_tokens(&mut self, now: Timestamp) {
        let old = |token: &Arc<JoinToken>| token.expires.after(EXPIRED_TOKEN_KEPT) <= now;
        let gone: Vec<Uuid> =
            self.state.join_tokens().filter(|token| old(token)).map(|token| token.accessor).collect();
        self.revoke_join_tokens(&gone);
    }

    /// Takes a token for one agent. The same agent with the same key may take it again while it lasts, because the answer
    /// to the first time may have been lost.
    pub(super) fn use_join_token(
        &mut self,
        secret_hash: &[u8; 32],
        role: JoinRole,
        used: &JoinTokenUse,
    ) -> Result<(), Refusal> {
        let found = self.state.join_tokens().find(|token| token.secret_hash == *secret_hash);
        let mut token = JoinToken::clone(found.ok_or(Refusal::JoinTokenUnknown)?);
        let accessor = token.accessor;
        if token.role != role {
            return Err(Refusal::JoinTokenRole { accessor, role: token.role, asked: role });
        }
        if token.expires <= used.time && !mutants::on!("join-token-for-ever") {
            return Err(Refusal::JoinTokenExpired { accessor });
        }
        match &token.used {
            Some(before) if (before.node, before.key_hash) == (used.node, used.key_hash) => return Ok(()),
            Some(_) if mutants::on!("join-token-twice") => {}
            Some(_) => return Err(Refusal::JoinTokenUsed { accessor }),
            None => {}
        }
        token.used = Some(used.clone());
        token.modify_index = self.index;
        self.note(ChangedRow::JoinToken(accessor));
        self.state.join_tokens.insert(accessor, Arc::new(token));
        Ok(())
    }

    pub(super) fn revoke_join_tokens(&mut self, accessors: &[Uuid]) {
        for &accessor in accessors {
            if self.state.join_tokens.remove(&accessor).is_some() {
                self.note(ChangedRow::JoinToken(accessor));
            }
        }
    }

    pub(super) fn set_join_settings(&mut self, require_token: bool) {
        self.state.join_settings.set(JoinSettings { require_token, modify_index: self.index });
        self.note(ChangedRow::JoinSettings);
    }

    pub(super) fn trust_region(&mut self, region: &TrustedRegion) {
        let known = self.state.trusted_region(&region.name);
        let create_index = known.map_or(self.index, |known| known.create_index);
        let region = TrustedRegion { create_index, modify_index: self.index, ..region.clone() };
        self.note(ChangedRow::Region(region.name.clone()));
        self.state.regions.insert(region.name.clone(), Arc::new(region));
    }

    pub(super) fn forget_region(&mut self, name: &Text) -> Result<(), Refusal> {
        if self.state.regions.remove(name).is_none() {
            return Err(Refusal::RegionNotFound { name: name.clone() });
        }
        self.note(ChangedRow::Region(name.clone()));
        Ok(())
    }
}
