//! A web server of the smallest kind, and the fetches that prove a path carries what it should.

use std::{
    collections::HashMap,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    os::fd::AsRawFd as _,
    process::Stdio,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use nix::sys::socket::{Shutdown as Both, shutdown};
use sha2::{Digest as _, Sha256};

use crate::netns::Netns;

/// How long one transfer may take; 64 MiB take 3 s on two idle cores.
const DEADLINE: Duration = Duration::from_secs(180);

/// Where the server tells visitors their own address.
pub const WHO: &str = "/who";

/// Serves its pages by path on port 80 of every address of a machine; a POST is answered with the SHA-256 of what
/// it brought, [`WHO`] with the visitor's address. Ends when dropped.
pub struct Server {
    listener: Arc<TcpListener>,
}

impl Server {
    /// Starts it.
    pub fn start(machine: &Netns, pages: impl IntoIterator<Item = (&'static str, Vec<u8>)>) -> Result<Self> {
        let pages: Arc<HashMap<&str, Vec<u8>>> = Arc::new(pages.into_iter().collect());
        let listener = machine.inside(|| TcpListener::bind("[::]:80").context("binding port 80"))?;
        let listener = Arc::new(listener);
        let shared = Arc::clone(&listener);
        thread::spawn(move || {
            for stream in shared.incoming() {
                let Ok(stream) = stream else { return };
                let pages = Arc::clone(&pages);
                // A visitor who leaves early is no concern of the server's; the visitor's side reports it.
                thread::spawn(move || answer(stream, &pages).ok());
            }
        });
        Ok(Self { listener })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Wakes the thread that waits for visitors.
        let _ = shutdown(self.listener.as_raw_fd(), Both::Both);
    }
}

fn answer(stream: TcpStream, pages: &HashMap<&str, Vec<u8>>) -> Result<()> {
    let mut reader = BufReader::new(&stream);
    let mut request = String::new();
    reader.read_line(&mut request)?;
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        if line.trim().is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse()?;
        }
    }
    let mut words = request.split_whitespace();
    let (status, body) = match (words.next(), words.next()) {
        (Some("POST"), _) => {
            let mut body = vec![0; length];
            reader.read_exact(&mut body)?;
            ("200 OK", sha256(&body).into_bytes())
        }
        (Some("GET"), Some(WHO)) => {
            ("200 OK", stream.peer_addr()?.ip().to_canonical().to_string().into_bytes())
        }
        (Some("GET"), Some(path)) if pages.contains_key(path) => ("200 OK", pages[path].clone()),
        _ => ("404 Not Found", b"no such page\n".to_vec()),
    };
    let mut writer = &stream;
    write!(writer, "HTTP/1.0 {status}\r\nContent-Length: {}\r\n\r\n", body.len())?;
    writer.write_all(&body)?;
    Ok(stream.shutdown(Shutdown::Write)?)
}

/// What came over the wire.
#[derive(Debug)]
pub struct Fetched {
    /// Bytes of the body.
    pub bytes: u64,
    /// Their SHA-256, in hex.
    pub sha256: String,
    /// From the request to the last byte.
    pub took: Duration,
}

impl Fetched {
    /// Megabits per second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.bytes as f64 * 8.0 / 1e6 / self.took.as_secs_f64()
    }
}

/// Fetches a page with curl.
pub fn fetch(machine: &Netns, url: &str) -> Result<Fetched> {
    transfer(machine, url, &[], &[])
}

/// Posts bytes with curl and returns the SHA-256 that the server saw.
pub fn post(machine: &Netns, url: &str, body: &[u8]) -> Result<String> {
    let mut child =
        curl(machine, url, &["--data-binary", "@-", "--header", "Expect:"]).spawn().context("curl")?;
    child.stdin.take().context("curl has no stdin")?.write_all(body).context("giving curl the body")?;
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "{url}: {}", String::from_utf8_lossy(&output.stderr).trim_end());
    Ok(String::from_utf8(output.stdout)?)
}

/// Asks a server which address it sees, with curl; gives up after `patience`.
pub fn who(machine: &Netns, server: &str, patience: Duration) -> Result<String> {
    let host = if server.contains(':') { format!("[{server}]") } else { server.to_owned() };
    let seconds = patience.as_secs().to_string();
    let output = curl(machine, &format!("http://{host}{WHO}"), &["--max-time", &seconds]).output()?;
    ensure!(output.status.success(), "{host}: {}", String::from_utf8_lossy(&output.stderr).trim_end());
    Ok(String::from_utf8(output.stdout)?)
}

fn transfer(machine: &Netns, url: &str, args: &[&str], body: &[u8]) -> Result<Fetched> {
    let begun = Instant::now();
    let mut child = curl(machine, url, args).spawn().context("starting curl")?;
    child.stdin.take().context("curl has no stdin")?.write_all(body)?;
    let mut stdout = child.stdout.take().context("curl has no stdout")?;
    let (mut hash, mut bytes, mut buffer) = (Sha256::new(), 0, vec![0; 1 << 16]);
    loop {
        let count = stdout.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        hash.update(&buffer[..count]);
        bytes += count as u64;
    }
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "{url}: {}", String::from_utf8_lossy(&output.stderr).trim_end());
    Ok(Fetched { bytes, sha256: hex(&hash.finalize()), took: begun.elapsed() })
}

fn curl(machine: &Netns, url: &str, args: &[&str]) -> std::process::Command {
    let mut command = machine.command("curl");
    command
        .args(["--disable", "--silent", "--show-error", "--fail", "--globoff", "--noproxy", "*"])
        .args(["--connect-timeout", "10", "--max-time", &DEADLINE.as_secs().to_string()])
        .args(args)
        .arg(url)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// SHA-256 in hex.
#[must_use]
pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Bytes that no compression and no luck turns into each other (Marsaglia's xorshift64).
#[must_use]
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}
