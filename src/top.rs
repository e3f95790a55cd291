//! `ringway top`: what an instance does, live in the terminal, over its admin endpoint.
//!
//! In reading order: a thread reads the pages (`demo::stats`) once a second, `view` keeps what they
//! said, `draw` shows it. Without a terminal each reading is printed as plain lines.

mod draw;
mod view;

use std::{
    fs,
    io::{self, IsTerminal, Write},
    net::SocketAddr,
    path::PathBuf,
    process::ExitCode,
    sync::mpsc::{self, Receiver, Sender},
    thread,
    time::Duration,
};

use ratatui::{
    DefaultTerminal,
    crossterm::event::{self, Event, KeyCode, KeyEvent, KeyModifiers},
};

use self::view::{Reading, View};
use crate::{child, demo::stats, errno::cause};

/// Between two readings.
const EVERY: Duration = Duration::from_secs(1);

/// How long a look at the keyboard lasts before what was read is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// Backends that a page key moves by.
const PAGE: isize = 10;

/// Arguments of `ringway top`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Keys: q quits, tab shows another phase, arrows and page keys move the list of backends.
Without a terminal each reading is printed as plain lines.

Examples:
  ringway top
  ringway top --admin 10.0.0.5:9900 --token-file admin.token")]
pub struct Args {
    /// The admin endpoint of the instance
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:9900")]
    admin: SocketAddr,
    /// A file with the token of an instance that wants one
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

/// What the screen waits for, beside keys.
enum News {
    Read(Box<Result<Reading, String>>),
    Stop,
}

/// Shows the instance until `q`, Ctrl-C or a signal.
pub fn run(args: Args) -> ExitCode {
    match token(&args).and_then(|token| watch(args.admin, token)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ringway: {error}");
            ExitCode::FAILURE
        }
    }
}

fn token(args: &Args) -> Result<Option<String>, String> {
    let Some(file) = &args.token_file else { return Ok(None) };
    let text = fs::read_to_string(file).map_err(|error| {
        let (file, cause) = (file.display(), cause(&error));
        format!("--token-file {file}: cannot read it: {cause} (write the name of a file)")
    })?;
    Ok(Some(text.trim().to_owned()))
}

fn watch(admin: SocketAddr, token: Option<String>) -> Result<(), String> {
    let (tell, told) = mpsc::channel();
    let stopped = tell.clone();
    child::on_stop_signal(move || _ = stopped.send(News::Stop));
    // Dropped with us, which ends the reader between two readings.
    let (_stay, gone) = mpsc::channel();
    thread::spawn(move || read(admin, token.as_deref(), &tell, &gone));
    let view = View::new(admin.to_string());
    if !io::stdout().is_terminal() {
        return print(view, &told);
    }
    let unusable = |error: io::Error| format!("cannot use this terminal: {}", cause(&error));
    // From here on a panic restores it too.
    let mut terminal = ratatui::try_init().map_err(unusable)?;
    let shown = show(&mut terminal, view, &told);
    ratatui::restore();
    shown.map_err(unusable)
}

/// Reads both pages once a second until nobody listens any more.
fn read(admin: SocketAddr, token: Option<&str>, tell: &Sender<News>, gone: &Receiver<()>) {
    let both = || {
        let stats = stats::read_page(admin, token, "/stats")?;
        Ok(Reading { stats, history: stats::read_page(admin, token, "/stats/history")? })
    };
    while tell.send(News::Read(Box::new(both()))).is_ok() {
        if gone.recv_timeout(EVERY) == Err(mpsc::RecvTimeoutError::Disconnected) {
            return;
        }
    }
}

fn print(mut view: View, told: &Receiver<News>) -> Result<(), String> {
    while let Ok(News::Read(read)) = told.recv() {
        view.take(*read);
        if io::stdout().write_all(draw::plain(&view).as_bytes()).is_err() {
            // Whoever read our lines has had enough.
            break;
        }
    }
    Ok(())
}

fn show(terminal: &mut DefaultTerminal, mut view: View, told: &Receiver<News>) -> io::Result<()> {
    loop {
        for news in told.try_iter() {
            match news {
                News::Read(read) => view.take(*read),
                News::Stop => return Ok(()),
            }
        }
        terminal.draw(|frame| draw::draw(frame, &view))?;
        if event::poll(LOOK)?
            && let Event::Key(key) = event::read()?
            && key.is_press()
            && !pressed(&mut view, key)
        {
            return Ok(());
        }
    }
}

/// False exactly when the key ends it.
fn pressed(view: &mut View, key: KeyEvent) -> bool {
    match key.code {
        KeyCode::Char('q') => return false,
        // In this mode the terminal makes no signal of it.
        KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return false,
        KeyCode::Tab => view.next_phase(),
        KeyCode::Up => view.scroll(-1),
        KeyCode::Down => view.scroll(1),
        KeyCode::PageUp => view.scroll(-PAGE),
        KeyCode::PageDown => view.scroll(PAGE),
        _ => {}
    }
    true
}
