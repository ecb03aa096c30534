//! People use the tunnel while something happens to the hub: a ping every 10 ms from the phone to the NAS, and files from
//! there.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Instant,
};

use anyhow::{Context as _, Result, anyhow, ensure};
use relay_tests::{
    guest,
    lab::{World, pings::Pings, web, world::NAS4},
};

use crate::vps::DEADLINE;

/// Where the NAS has the file.
pub(crate) const FILE: &str = "/film";
/// The file's size; it is fetched again and again.
const SIZE: usize = 1 << 20;
/// Bytes a second, so that what is lost is not lost in a queue that the transfer itself has filled.
const RATE: &str = "250k";
/// Pings before something happens, and after it.
const CALM: u32 = 100;

/// The file.
pub(crate) fn film() -> Vec<u8> {
    web::noise(5, SIZE)
}

/// Not one ping may be lost and every file must come whole, whatever happens.
pub(crate) fn unnoticed(what: &str, world: &World, happens: impl FnOnce() -> Result<()>) -> Result<()> {
    let begun = Instant::now();
    let pings = Pings::start(&world.phone, NAS4.parse()?)?;
    let over = AtomicBool::new(false);
    let (happened, fetched) = thread::scope(|scope| -> Result<_> {
        let transfer = scope.spawn(|| {
            let mut times = 0;
            while times == 0 || !over.load(Ordering::Relaxed) {
                fetch(world)?;
                times += 1;
            }
            anyhow::Ok(times)
        });
        let happened = calm(&pings).and_then(|()| happens()).and_then(|()| calm(&pings));
        over.store(true, Ordering::Relaxed);
        Ok((happened, transfer.join().map_err(|_| anyhow!("the transfer panicked"))?))
    })?;
    let tally = pings.end()?;
    happened.with_context(|| what.to_owned())?;
    let fetched = fetched.with_context(|| what.to_owned())?;
    println!("{what}: {:.1} s", begun.elapsed().as_secs_f64());
    let (sent, lost) = (tally.sent, tally.lost.len());
    guest::fact(&serde_json::json!({"case": what, "sent": sent, "lost": lost, "files": fetched}));
    ensure!(lost == 0, "{what}: {lost} of {sent} pings were lost: {:?}", tally.lost);
    Ok(())
}

fn fetch(world: &World) -> Result<()> {
    let url = format!("http://{NAS4}{FILE}");
    let mut curl = world.phone.command("curl");
    let got = curl.args(["-sS", "--noproxy", "*", "--limit-rate", RATE, &url]).output()?;
    ensure!(got.status.success(), "curl: {}", String::from_utf8_lossy(&got.stderr));
    ensure!(web::sha256(&got.stdout) == web::sha256(&film()), "{url} came damaged");
    Ok(())
}

/// Waits until some pings more are sent.
fn calm(pings: &Pings) -> Result<()> {
    pings.more(CALM, DEADLINE)
}
