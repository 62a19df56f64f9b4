//! Digests, identifiers and secrets.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use num_bigint::BigUint;
use sha1::{Digest, Sha1};
use sha2::{Sha256, Sha512};

use super::Accepts::{Number as Num, String as Text};
use super::{Arguments, Fault, Functions, Outcome, Spec, open, param, spec};
use crate::value::Value;

pub(super) const SPECS: &[Spec] = &[
    open("bcrypt", &[param("str", Text)], param("cost", Num), bcrypt),
    spec("md5", &[param("str", Text)], |v, _| digest(v, |b| md5::Md5::digest(b).to_vec())),
    spec("rsadecrypt", &[param("ciphertext", Text), param("privatekey", Text)], rsadecrypt),
    spec("sha1", &[param("str", Text)], |v, _| digest(v, |b| Sha1::digest(b).to_vec())),
    spec("sha256", &[param("str", Text)], |v, _| digest(v, |b| Sha256::digest(b).to_vec())),
    spec("sha512", &[param("str", Text)], |v, _| digest(v, |b| Sha512::digest(b).to_vec())),
    spec("uuidv4", &[], uuidv4),
    spec("uuidv5", &[param("namespace", Text), param("name", Text)], uuidv5),
];

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn digest(values: Vec<Value>, hash: impl FnOnce(&[u8]) -> Vec<u8>) -> Outcome {
    Ok(Value::String(hex(&hash(Arguments::new(values).text().as_bytes()))))
}

/// Each step doubles the time; this one takes a second or two.
const BCRYPT_COST_MAX: i64 = 14;

/// The usual cost takes some fifty milliseconds, each one above doubles it.
const BCRYPT_COST_DEFAULT: i64 = 10;
const BCRYPT_STEPS: u64 = 120;

/// What a hash takes of the limits: eight of the usual cost are as much as a whole file may take.
pub(super) fn bcrypt_steps(arguments: &[Value]) -> u64 {
    let cost = match arguments.get(1) {
        Some(Value::Number(cost)) => cost.as_i64().unwrap_or(BCRYPT_COST_MAX),
        _ => BCRYPT_COST_DEFAULT,
    };
    let cost = if cost < 4 { BCRYPT_COST_DEFAULT } else { cost };
    // Higher costs are refused before anything is computed.
    if cost > BCRYPT_COST_MAX { 0 } else { BCRYPT_STEPS << cost }
}

fn bcrypt(values: Vec<Value>, functions: &Functions) -> Outcome {
    let count = values.len();
    let mut arguments = Arguments::new(values);
    let text = arguments.text();
    let cost = match count {
        1 => BCRYPT_COST_DEFAULT,
        2 => arguments.whole(1)?,
        _ => return Err(Fault::call("bcrypt() takes no more than two arguments")),
    };
    if cost > BCRYPT_COST_MAX {
        return Err(Fault::argument(1, format!("costs above {BCRYPT_COST_MAX} take too long here")));
    }
    if text.len() > 72 {
        return Err(Fault::call(
            "error occured generating password bcrypt: password length exceeds 72 bytes",
        ));
    }
    // Too low a cost means the usual one.
    let cost = if cost < 4 { BCRYPT_COST_DEFAULT } else { cost };
    let mut salt = [0; 16];
    (functions.random)(&mut salt);
    let mut key = text.into_bytes();
    key.push(0);
    key.truncate(72);
    let hash = ::bcrypt::bcrypt(cost as u32, salt, &key);
    Ok(Value::String(format!("$2a${cost:02}${}{}", crypt64(&salt), crypt64(&hash[..23]))))
}

/// Base 64 with the alphabet of crypt, without padding.
fn crypt64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let group = chunk.iter().fold(0u32, |g, b| (g << 8) | u32::from(*b)) << (8 * (3 - chunk.len()));
        for i in 0..=chunk.len() {
            out.push(char::from(ALPHABET[(group >> (18 - 6 * i)) as usize & 63]));
        }
    }
    out
}

fn uuid_text(bytes: &[u8; 16]) -> String {
    let h = hex(bytes);
    format!("{}-{}-{}-{}-{}", &h[..8], &h[8..12], &h[12..16], &h[16..20], &h[20..])
}

fn uuidv4(_: Vec<Value>, functions: &Functions) -> Outcome {
    let mut bytes = [0; 16];
    (functions.random)(&mut bytes);
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    Ok(Value::String(uuid_text(&bytes)))
}

fn uuidv5(values: Vec<Value>, _: &Functions) -> Outcome {
    let mut arguments = Arguments::new(values);
    let (namespace, name) = (arguments.text(), arguments.text());
    let space = match namespace.as_str() {
        "dns" | "url" | "oid" | "x500" => {
            let last = match namespace.as_str() {
                "dns" => 0x10,
                "url" => 0x11,
                "oid" => 0x12,
                _ => 0x14,
            };
            // The four well-known namespaces differ in one byte.
            let mut bytes =
                [0x6b, 0xa7, 0xb8, 0, 0x9d, 0xad, 0x11, 0xd1, 0x80, 0xb4, 0x00, 0xc0, 0x4f, 0xd4, 0x30, 0xc8];
            bytes[3] = last;
            bytes
        }
        other => parse_uuid(other)
            .map_err(|why| Fault::call(format!("uuidv5() doesn't support namespace {other} ({why})")))?,
    };
    let mut hash = Sha1::new();
    hash.update(space);
    hash.update(name.as_bytes());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash.finalize()[..16]);
    bytes[6] = bytes[6] & 0x0f | 0x50;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    Ok(Value::String(uuid_text(&bytes)))
}

fn parse_uuid(text: &str) -> Result<[u8; 16], String> {
    if text.len() != 36 {
        return Err(format!("invalid UUID length: {}", text.len()));
    }
    let dashed = text.bytes().enumerate().all(|(i, b)| (b == b'-') == matches!(i, 8 | 13 | 18 | 23));
    let digits: String = text.chars().filter(|c| *c != '-').collect();
    match (dashed, u128::from_str_radix(&digits, 16)) {
        (true, Ok(number)) => Ok(number.to_be_bytes()),
        _ => Err("invalid UUID format".to_string()),
    }
}

fn rsadecrypt(values: Vec<Value>, _: &Functions) -> Outcome {
    let mut arguments = Arguments::new(values);
    let (text, key) = (arguments.text(), arguments.text());
    let cipher = STANDARD.decode(text.trim()).map_err(|_| {
        Fault::call(format!("failed to decode input {text:?}: cipher text must be base64-encoded"))
    })?;
    let (modulus, exponent) =
        private_key(&key).map_err(|why| Fault::call(format!("failed to parse key: {why}")))?;
    let failed = || Fault::call("failed to decrypt: the text was not encrypted for this key");
    let number = BigUint::from_bytes_be(&cipher);
    if modulus.bits() > 16_384 || number >= modulus {
        return Err(failed());
    }
    // PKCS #1: 0, 2, random bytes, 0, the message.
    let plain = number.modpow(&exponent, &modulus).to_bytes_be();
    let end = plain.iter().position(|b| *b == 0).ok_or_else(failed)?;
    if plain.first() != Some(&2) || end < 9 {
        return Err(failed());
    }
    String::from_utf8(plain[end + 1..].to_vec())
        .map(Value::string)
        .map_err(|_| Fault::call("the decrypted text is not UTF-8"))
}

/// Modulus and private exponent of a key in the traditional PEM form.
fn private_key(pem: &str) -> Result<(BigUint, BigUint), String> {
    let lines = pem.lines().map(str::trim).skip_while(|l| *l != "-----BEGIN RSA PRIVATE KEY-----").skip(1);
    let body: String = lines.take_while(|l| !l.starts_with("-----END")).collect();
    if body.is_empty() {
        return Err("no \"RSA PRIVATE KEY\" block found".to_string());
    }
    let bytes = STANDARD.decode(body).map_err(|_| "the key is not base64".to_string())?;
    let short = || "the key is cut short".to_string();
    let (_, sequence, _) = element(&bytes).ok_or_else(short)?;
    let mut rest = sequence;
    let mut numbers = Vec::new();
    while numbers.len() < 4 {
        let (tag, content, after) = element(rest).ok_or_else(short)?;
        if tag != 2 {
            return Err("the key has an unknown form".to_string());
        }
        numbers.push(BigUint::from_bytes_be(content));
        rest = after;
    }
    let (exponent, modulus) = (numbers.swap_remove(3), numbers.swap_remove(1));
    if modulus == BigUint::ZERO { Err("the modulus is zero".to_string()) } else { Ok((modulus, exponent)) }
}

/// Tag, content and what follows of a DER element.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, first) = (*bytes.first()?, *bytes.get(1)?);
    let (length, head) = if first < 0x80 {
        (usize::from(first), 2)
    } else {
        let count = usize::from(first & 0x7f);
        let digits = bytes.get(2..2 + count.min(4))?;
        (digits.iter().fold(0, |n, b| (n << 8) | usize::from(*b)), 2 + count)
    };
    let end = head.checked_add(length)?;
    Some((tag, bytes.get(head..end)?, bytes.get(end..)?))
}
