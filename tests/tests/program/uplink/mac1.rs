//! mac1, as other implementations make it.

use anyhow::{Result, ensure};
use relay_common::{UplinkVerdict, mac1::MacKey};
use relay_tests::uplink::{
    KEY,
    message::{handshake, made_up, made_up_response, public_key},
};

use super::{guard, there};

#[test]
fn handshakes_of_another_implementation_pass() -> Result<()> {
    let mut guard = guard()?;
    for from in there() {
        for peer in 20..30 {
            let (initiation, _) = handshake(peer, KEY)?;
            ensure!(guard.knock(from, &initiation)? == UplinkVerdict::Initiation, "from {from}");
            let (_, response) = handshake(KEY, peer)?;
            ensure!(guard.knock(from, &response)? == UplinkVerdict::Response, "from {from}");
        }
    }
    Ok(())
}

#[test]
fn those_for_another_key_do_not() -> Result<()> {
    let mut guard = guard()?;
    let [from, _] = there();
    let (initiation, response) = handshake(20, 21)?;
    ensure!(guard.knock(from, &initiation)? == UplinkVerdict::BadMac1);
    ensure!(guard.knock(from, &response)? == UplinkVerdict::BadMac1);
    Ok(())
}

/// Behind its type every bit of a message counts that stands before its mac1 or in it; mac2 is the kernel's.
#[test]
fn every_bit_counts() -> Result<()> {
    let mut guard = guard()?;
    guard.settings.junk.interval = 0;
    guard.settings.source.interval = 0;
    guard.settings.global.interval = 0;
    guard.apply()?;
    let [from, _] = there();
    let key = public_key(KEY);
    for (message, good) in
        [(made_up(&key, 1), UplinkVerdict::Initiation), (made_up_response(&key, 1), UplinkVerdict::Response)]
    {
        let mac2 = message.len() - 16;
        for bit in 4 * 8..message.len() * 8 {
            let mut flipped = message.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let verdict = guard.knock(from, &flipped)?;
            let expected = match bit / 8 {
                at if at < mac2 => UplinkVerdict::BadMac1,
                at if at == mac2 && bit % 8 == 0 => good,
                // The same ephemeral key once more.
                _ if good == UplinkVerdict::Initiation => UplinkVerdict::Replay,
                _ => good,
            };
            ensure!(verdict == expected, "{good:?}, bit {bit}: {verdict:?}, expected {expected:?}");
        }
    }
    Ok(())
}

/// During a rotation both keys are good, whichever place they are in; before and after it one of them.
#[test]
fn a_key_follows_another() -> Result<()> {
    let mut guard = guard()?;
    guard.settings.source.interval = 0;
    guard.settings.junk.interval = 0;
    let [from, _] = there();
    let (old, new) = (public_key(KEY), public_key(KEY + 1));
    let mut number = 0;
    let mut good = |guard: &mut relay_tests::uplink::Guard, key: &[u8; 32]| -> Result<bool> {
        number += 1;
        let initiation = guard.knock(from, &made_up(key, number))?;
        let response = guard.knock(from, &made_up_response(key, number))?;
        ensure!((initiation == UplinkVerdict::Initiation) == (response == UplinkVerdict::Response));
        ensure!(initiation == UplinkVerdict::Initiation || initiation == UplinkVerdict::BadMac1);
        Ok(initiation == UplinkVerdict::Initiation)
    };
    guard.apply()?;
    ensure!(good(&mut guard, &old)? && !good(&mut guard, &new)?, "before");
    guard.settings.keys[1] = MacKey::of(&new);
    guard.apply()?;
    ensure!(!good(&mut guard, &new)?, "a place that is not taken");
    guard.settings.has_key[1] = 1;
    guard.apply()?;
    ensure!(good(&mut guard, &old)? && good(&mut guard, &new)?, "meanwhile");
    guard.settings.has_key[0] = 0;
    guard.apply()?;
    ensure!(!good(&mut guard, &old)? && good(&mut guard, &new)?, "afterwards");
    guard.settings.has_key[1] = 0;
    guard.apply()?;
    ensure!(!good(&mut guard, &old)? && !good(&mut guard, &new)?, "without any");
    Ok(())
}
