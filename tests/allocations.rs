//! What the data path asks of the allocator, counted: nothing per message.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    process::Command,
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use ringway::{child::free_address, rt, run};

/// Which driver a process is to use.
const DRIVER: &str = "RINGWAY_TEST_DRIVER";

/// From one tick of a shard to the next.
const TICK_MS: u64 = 50;

/// Allocations of shards since the start.
static COUNTED: AtomicU64 = AtomicU64::new(0);

/// The system's allocator, with a count of what shards take.
struct Counting;

// SAFETY: every call is the system allocator's own.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count_on_shards();
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A shard is known by the name that the kernel has for its thread; asking allocates nothing.
fn count_on_shards() {
    let mut name = [0u8; 16];
    // SAFETY: PR_GET_NAME writes at most 16 bytes.
    unsafe { libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr()) };
    if name.starts_with(b"ringway-shard") {
        COUNTED.fetch_add(1, Ordering::Relaxed);
    }
}

/// A server that sends back what it gets.
fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            thread::spawn(move || {
                let mut bytes = [0; 128];
                while stream.read_exact(&mut bytes).is_ok() && stream.write_all(&bytes).is_ok() {}
            });
        }
    });
    address
}

/// A file that goes with its guard.
struct TempFile(PathBuf);

impl Drop for TempFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// An instance in this process, for the rest of its life, and its file.
fn start(driver: &str) -> (SocketAddr, TempFile) {
    let edge = free_address(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let file = std::env::temp_dir().join(format!("ringway-alloc-{}-{driver}", std::process::id()));
    let text = format!(
        "[runtime]\nshards = 1\ndriver = \"{driver}\"\n[admin]\nlisten = \"127.0.0.1:0\"\n\
         [log]\nreport = \"0s\"\nlevel = \"warn\"\n\
         [[listener]]\nname = \"edge\"\nlisten = [\"{edge}\"]\npool = \"web\"\n\
         [[pool]]\nname = \"web\"\n[pool.health_check]\nkind = \"none\"\n\
         [[pool.backend]]\naddress = \"{}\"\n",
        echo()
    );
    let guard = TempFile(file.clone());
    fs::write(&file, text).unwrap();
    thread::spawn(move || run::run(&file));
    (edge, guard)
}

fn connect(edge: SocketAddr) -> TcpStream {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        match TcpStream::connect(edge) {
            Ok(client) => {
                client.set_nodelay(true).unwrap();
                return client;
            }
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        thread::yield_now();
    }
}

fn talk(clients: &mut [TcpStream], messages: u64) {
    for number in 0..messages / clients.len() as u64 {
        for client in &mut *clients {
            client.write_all(&[number as u8; 128]).unwrap();
        }
        for client in &mut *clients {
            let mut answer = [0; 128];
            client.read_exact(&mut answer).unwrap();
            assert_eq!(answer, [number as u8; 128]);
        }
    }
}

/// 1. Clients talk until everything that is made once has been made. 2. They exchange 20,000
///    messages: the shard allocates for its tick, twenty times a second, and for no message.
#[test]
fn a_message_allocates_nothing() {
    for (driver, wanted) in [("io_uring", rt::Driver::IoUring), ("epoll", rt::Driver::Epoll)] {
        let refusal = rt::Engine::new(wanted, Box::leak(Box::default())).err();
        if let Err(refusal) = rt::choose(Some(wanted), refusal.as_ref()) {
            assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "NOT TESTED: {refusal}");
            eprintln!("NOT TESTED with {driver}: {refusal}");
            continue;
        }
        // An instance lives as long as its process.
        let mut told = Command::new(std::env::current_exe().unwrap());
        told.args(["--exact", "with_the_driver_given", "--ignored", "--nocapture"]);
        assert!(told.env(DRIVER, driver).status().unwrap().success(), "with {driver}");
    }
}

/// Of that story, what happens in a process of its own.
#[test]
#[ignore = "told by a_message_allocates_nothing"]
fn with_the_driver_given() {
    const MESSAGES: u64 = 20_000;
    // One in a thousand: what grows once may still grow here.
    const STRAY_MAX: u64 = MESSAGES / 1_000;
    // Whoever runs all ignored tests gives none.
    let Ok(driver) = std::env::var(DRIVER) else { return };
    let (edge, _file) = start(&driver);
    let mut clients: Vec<_> = (0..8).map(|_| connect(edge)).collect();
    talk(&mut clients, 4_000);
    let before = COUNTED.load(Ordering::Relaxed);
    assert!(before > 0, "the count is blind");
    let began = Instant::now();
    talk(&mut clients, MESSAGES);
    let counted = COUNTED.load(Ordering::Relaxed) - before;
    // A tick may take two, and one more tick may fall into the time than fits.
    let ticks = began.elapsed().as_millis() as u64 / TICK_MS + 1;
    eprintln!("{driver}: {counted} allocations for {MESSAGES} messages and {ticks} ticks");
    assert!(counted <= 2 * ticks + STRAY_MAX, "messages allocate");
}
