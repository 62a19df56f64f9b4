//! Packets as they arrive.

use std::net::SocketAddr;

use bytes::Bytes;

use crate::{
    gossip::{Gossip, Phase},
    member::MemberId,
    wire::{self, Kind, WireError},
};

impl Gossip {
    /// Takes one packet. What can not be read, or speaks for another, is counted and changes nothing.
    pub(crate) fn receive(&mut self, from: SocketAddr, sender: MemberId, bytes: Bytes) {
        if !self.heard_cap.admit(self.now, from) {
            self.counters.capped += 1;
            return;
        }
        self.counters.packets_in += 1;
        if bytes.len() > self.config.packet_bytes_max {
            self.counters.malformed += 1;
            return;
        }
        if sender == self.me.id {
            self.meet_ourselves(from);
            return;
        }
        let taken = wire::read(bytes, self.config.pool).and_then(|(kind, body)| match kind {
            // While we leave we still answer, so that nobody takes the leave for a failure; news do not concern us.
            Kind::Ping => self.receive_ping(from, sender, &body),
            _ if self.phase != Phase::Present => Ok(()),
            Kind::Ack => self.receive_ack(from, sender, &body),
            Kind::Foca => self.receive_foca(sender, body),
            Kind::Doubt => self.receive_doubt(from, sender, &body),
            Kind::Finding => self.receive_finding(sender, &body),
            Kind::Hello | Kind::Welcome => self.receive_greeting(kind, from, sender, body),
            Kind::News => self.receive_news(sender, body),
            Kind::SyncRequest | Kind::Seed => Err(WireError::Foreign),
        });
        match taken {
            Ok(()) => {}
            Err(WireError::Foreign | WireError::Unused) => self.counters.refused += 1,
            Err(WireError::Malformed | WireError::Full) => self.counters.malformed += 1,
            Err(WireError::TooMany) => self.counters.overflowed += 1,
        }
    }
}
