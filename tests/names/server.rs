//! A name server in this process, on UDP and TCP, that follows a script. Its packets are written by
//! hand (RFC 1035), so that nothing is taken for granted that the resolver believes too.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
};

pub const A: u16 = 1;
pub const AAAA: u16 = 28;
pub const SRV: u16 = 33;

/// What is asked.
pub struct Question {
    /// Lower case, without the last dot.
    pub name: String,
    pub kind: u16,
}

/// What is answered.
#[derive(Clone, Debug)]
pub enum Reply {
    /// These records, in order, each with its time to live.
    Records(Vec<(u32, Data)>),
    /// A code without records: 2 is SERVFAIL, 3 NXDOMAIN, 5 REFUSED.
    Code(u8),
    /// On UDP nothing but "ask again over TCP", there these records.
    Truncated(Vec<(u32, Data)>),
    /// The right head and question, then these bytes in place of as many records as are claimed.
    Broken(u16, Vec<u8>),
    /// Whatever these bytes are.
    Raw(Vec<u8>),
    Silence,
}

impl Reply {
    /// One that is no answer: broken or random.
    pub fn spoiled(rng: &mut fastrand::Rng) -> Reply {
        let bytes: Vec<u8> = (0..rng.usize(0..200)).map(|_| rng.u8(..)).collect();
        match rng.u8(0..4) {
            0 => Reply::Raw(bytes),
            _ => Reply::Broken(rng.u16(1..), bytes),
        }
    }
}

#[derive(Clone, Debug)]
pub enum Data {
    V4(Ipv4Addr),
    V6(Ipv6Addr),
    Service { priority: u16, weight: u16, port: u16, target: &'static str },
}

type Script = Box<dyn FnMut(&Question) -> Reply + Send>;

pub struct NameServer {
    pub address: SocketAddr,
    script: Arc<Mutex<Script>>,
    asked: Arc<AtomicU64>,
    stopped: Arc<AtomicBool>,
}

/// A port that is free for both: one that TCP has free may be somebody's question by UDP.
fn on_one_port() -> (TcpListener, UdpSocket) {
    loop {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        if let Ok(udp) = UdpSocket::bind(tcp.local_addr().unwrap()) {
            return (tcp, udp);
        }
    }
}

impl NameServer {
    pub fn new(script: impl FnMut(&Question) -> Reply + Send + 'static) -> NameServer {
        let (tcp, udp) = on_one_port();
        let address = tcp.local_addr().unwrap();
        let script: Arc<Mutex<Script>> = Arc::new(Mutex::new(Box::new(script)));
        let asked = Arc::new(AtomicU64::new(0));
        let stopped = Arc::new(AtomicBool::new(false));
        let answer = {
            let (script, asked) = (Arc::clone(&script), Arc::clone(&asked));
            move |query: &[u8], tcp: bool| {
                asked.fetch_add(1, Ordering::SeqCst);
                let question = question(query);
                packet(query, (script.lock().unwrap())(&question), tcp)
            }
        };
        let (over_tcp, stop) = (answer.clone(), Arc::clone(&stopped));
        thread::spawn(move || serve_udp(&udp, &stop, |query| answer(query, false)));
        let stop = Arc::clone(&stopped);
        thread::spawn(move || serve_tcp(&tcp, &stop, |query| over_tcp(query, true)));
        NameServer { address, script, asked, stopped }
    }

    /// From now on another script.
    pub fn now(&self, script: impl FnMut(&Question) -> Reply + Send + 'static) {
        *self.script.lock().unwrap() = Box::new(script);
    }

    /// Questions so far.
    pub fn asked(&self) -> u64 {
        self.asked.load(Ordering::SeqCst)
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        // Both threads wait for somebody to come.
        let _ = UdpSocket::bind("127.0.0.1:0").unwrap().send_to(&[], self.address);
        let _ = std::net::TcpStream::connect(self.address);
    }
}

fn serve_udp(socket: &UdpSocket, stop: &AtomicBool, answer: impl Fn(&[u8]) -> Option<Vec<u8>>) {
    let mut query = [0; 4096];
    while let Ok((length, from)) = socket.recv_from(&mut query) {
        if stop.load(Ordering::SeqCst) {
            return;
        }
        if let Some(packet) = answer(&query[..length]) {
            let _ = socket.send_to(&packet, from);
        }
    }
}

fn serve_tcp(listener: &TcpListener, stop: &AtomicBool, answer: impl Fn(&[u8]) -> Option<Vec<u8>>) {
    while let Ok((mut stream, _)) = listener.accept() {
        if stop.load(Ordering::SeqCst) {
            return;
        }
        let mut length = [0; 2];
        if stream.read_exact(&mut length).is_err() {
            continue;
        }
        let mut query = vec![0; u16::from_be_bytes(length).into()];
        stream.read_exact(&mut query).unwrap();
        if let Some(packet) = answer(&query) {
            let framed = [&(packet.len() as u16).to_be_bytes()[..], &packet].concat();
            let _ = stream.write_all(&framed);
        }
    }
}

/// Bytes of the head.
const HEAD: usize = 12;

/// The labels of a query begin behind the head; kind and class follow them.
fn question(query: &[u8]) -> Question {
    let (mut labels, mut at) = (Vec::new(), HEAD);
    while query[at] != 0 {
        let end = at + 1 + usize::from(query[at]);
        labels.push(String::from_utf8_lossy(&query[at + 1..end]).to_lowercase());
        at = end;
    }
    let kind = u16::from_be_bytes([query[at + 1], query[at + 2]]);
    Question { name: labels.join("."), kind }
}

fn packet(query: &[u8], reply: Reply, tcp: bool) -> Option<Vec<u8>> {
    let (code, truncated, count, body) = match reply {
        Reply::Silence => return None,
        Reply::Raw(bytes) => return Some(bytes),
        Reply::Code(code) => (code, false, 0, Vec::new()),
        Reply::Truncated(_) if !tcp => (0, true, 0, Vec::new()),
        Reply::Records(records) | Reply::Truncated(records) => {
            (0, false, records.len() as u16, records.iter().flat_map(record).collect())
        }
        Reply::Broken(count, bytes) => (0, false, count, bytes),
    };
    let name_end = query[HEAD..].iter().position(|byte| *byte == 0).unwrap();
    // Kind and class: two bytes each.
    let question = &query[HEAD..HEAD + name_end + 5];
    let mut packet = query[..2].to_vec();
    // A response, recursion desired and available.
    packet.extend([0x81 | if truncated { 2 } else { 0 }, 0x80 | code]);
    packet.extend([0, 1]);
    packet.extend(count.to_be_bytes());
    packet.extend([0; 4]);
    packet.extend(question);
    packet.extend(body);
    Some(packet)
}

fn record((ttl, data): &(u32, Data)) -> Vec<u8> {
    let (kind, bytes) = match data {
        Data::V4(ip) => (A, ip.octets().to_vec()),
        Data::V6(ip) => (AAAA, ip.octets().to_vec()),
        Data::Service { priority, weight, port, target } => {
            let mut bytes: Vec<u8> =
                [priority, weight, port].iter().flat_map(|n| n.to_be_bytes()).collect();
            for label in target.split('.').filter(|label| !label.is_empty()) {
                bytes.push(label.len() as u8);
                bytes.extend(label.as_bytes());
            }
            bytes.push(0);
            (SRV, bytes)
        }
    };
    // Its name is where the question's stands.
    let mut record = vec![0xC0, HEAD as u8];
    record.extend(kind.to_be_bytes());
    record.extend([0, 1]);
    record.extend(ttl.to_be_bytes());
    record.extend((bytes.len() as u16).to_be_bytes());
    record.extend(bytes);
    record
}
