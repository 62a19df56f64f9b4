//! IP prefixes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Accepts::{Number as Num, String as Text};
use super::{Arguments, Fault, Functions, Outcome, Spec, open, param, spec};
use crate::value::Value;

pub(super) const SPECS: &[Spec] = &[
    spec("cidrhost", &[param("prefix", Text), param("hostnum", Num)], cidrhost),
    spec("cidrnetmask", &[param("prefix", Text)], cidrnetmask),
    spec("cidrsubnet", &[param("prefix", Text), param("newbits", Num), param("netnum", Num)], cidrsubnet),
    open("cidrsubnets", &[param("prefix", Text)], param("newbits", Num), cidrsubnets),
];

/// A network: `address` has no bits set beyond the first `length` of `bits`.
#[derive(Clone, Copy)]
struct Prefix {
    address: u128,
    length: u32,
    bits: u32,
}

impl Prefix {
    fn parse(text: &str) -> Result<Prefix, Fault> {
        let invalid = || Fault::call(format!("invalid CIDR expression: invalid CIDR address: {text}"));
        let (address, length) = text.split_once('/').ok_or_else(invalid)?;
        let address: IpAddr = address.parse().map_err(|_| invalid())?;
        let (address, bits) = match address {
            IpAddr::V4(v4) => (u128::from(u32::from(v4)), 32),
            IpAddr::V6(v6) => (u128::from(v6), 128),
        };
        let digits = !length.is_empty() && length.bytes().all(|b| b.is_ascii_digit());
        let length = length.parse().ok().filter(|l| digits && *l <= bits).ok_or_else(invalid)?;
        Ok(Prefix { address: address & mask(length, bits), length, bits })
    }

    fn show(&self, address: u128) -> String {
        if self.bits == 32 {
            Ipv4Addr::from(address as u32).to_string()
        } else {
            Ipv6Addr::from(address).to_string()
        }
    }

    fn show_prefix(&self) -> String {
        format!("{}/{}", self.show(self.address), self.length)
    }
}

fn shl(value: u128, by: u32) -> u128 {
    value.checked_shl(by).unwrap_or(0)
}

fn mask(length: u32, bits: u32) -> u128 {
    let all = if bits == 128 { u128::MAX } else { shl(1, bits) - 1 };
    all & !low(bits - length)
}

/// That many low bits set.
fn low(count: u32) -> u128 {
    if count >= 128 { u128::MAX } else { shl(1, count) - 1 }
}

fn cidrhost(values: Vec<Value>, _: &Functions) -> Outcome {
    let mut arguments = Arguments::new(values);
    let text = arguments.text();
    let number = arguments.whole(1)?;
    let prefix = Prefix::parse(&text)?;
    let host_bits = prefix.bits - prefix.length;
    let distance = u128::from(number.unsigned_abs());
    // Negative numbers count from the end: -1 is the last address.
    let host = if number >= 0 {
        (distance <= low(host_bits)).then_some(distance)
    } else {
        low(host_bits).checked_sub(distance - 1)
    };
    let host = host.ok_or_else(|| {
        Fault::call(format!("prefix of {} does not accommodate a host numbered {number}", prefix.length))
    })?;
    Ok(Value::string(prefix.show(prefix.address | host)))
}

fn cidrnetmask(values: Vec<Value>, _: &Functions) -> Outcome {
    let prefix = Prefix::parse(&Arguments::new(values).text())?;
    Ok(Value::string(prefix.show(mask(prefix.length, prefix.bits))))
}

fn extended(prefix: Prefix, new_bits: i64) -> Result<u32, Fault> {
    let length =
        u32::try_from(new_bits).ok().map(|n| prefix.length.saturating_add(n)).filter(|l| *l <= prefix.bits);
    length.ok_or_else(|| {
        Fault::call(format!("insufficient address space to extend prefix of {} by {new_bits}", prefix.length))
    })
}

fn cidrsubnet(values: Vec<Value>, _: &Functions) -> Outcome {
    let mut arguments = Arguments::new(values);
    let text = arguments.text();
    let (new_bits, number) = (arguments.whole(1)?, arguments.whole(2)?);
    let prefix = Prefix::parse(&text)?;
    let length = extended(prefix, new_bits)?;
    let network =
        u128::try_from(number).ok().filter(|n| *n <= low(length - prefix.length)).ok_or_else(|| {
            Fault::call(format!(
                "prefix extension of {new_bits} does not accommodate a subnet numbered {number}"
            ))
        })?;
    let address = prefix.address | shl(network, prefix.bits - length);
    Ok(Value::string(Prefix { address, length, ..prefix }.show_prefix()))
}

fn cidrsubnets(values: Vec<Value>, _: &Functions) -> Outcome {
    let count = values.len();
    let mut arguments = Arguments::new(values);
    let prefix = Prefix::parse(&arguments.text())?;
    let end = prefix.address | low(prefix.bits - prefix.length);
    let mut next = Some(prefix.address);
    let mut networks = Vec::new();
    for at in 1..count {
        let new_bits = arguments.whole(at)?;
        if new_bits < 1 {
            return Err(Fault::argument(at, "must extend prefix by at least one bit"));
        }
        let length = extended(prefix, new_bits).map_err(|_| {
            Fault::argument(at, format!("not enough remaining address space for a subnet with a prefix of {new_bits} bits after {}", prefix.show_prefix()))
        })?;
        let size_mask = low(prefix.bits - length);
        // The next network of that size that is free.
        let start = next.and_then(|n| n.checked_add(size_mask)).map(|n| n & !size_mask);
        let start = start.filter(|s| *s <= end && end - *s >= size_mask).ok_or_else(|| {
            Fault::argument(
                at,
                format!("not enough remaining address space for a subnet with a prefix of {length} bits"),
            )
        })?;
        next = (start | size_mask).checked_add(1);
        networks.push(Prefix { address: start, length, ..prefix }.show_prefix());
    }
    Ok(Value::strings(networks))
}
