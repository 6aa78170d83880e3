//! `lb top`: what a running process does, as it does it. It only asks `/stats`: the tables are in `panels.rs`, the
//! screen in `screen.rs`, both pure; here are the terminal, the clock and the questions.

mod model;
mod numbers;
mod panels;
mod screen;
#[cfg(test)]
mod tests;

use std::io::{self, IsTerminal as _};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use lb_control::admin::client;
use lb_control::config::address::AdminAddress;
use lb_control::config::{Origin, Purpose, load_blocking};
use lb_control::stats::document::{Stats, VERSION};
use ratatui::text::Text;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};

use self::model::{Key, Model, Unreachable};
use crate::Ending;
use crate::cli::{Format, TopArguments};
use crate::output::{complain, print};

/// Where it is asked unless told otherwise: where `lb demo` has its admin listener.
const AT: &str = "127.0.0.1:9900";

/// Columns of a page that nobody looks at through a terminal.
const PAGE_WIDTH: u16 = 160;

/// Answers and keys that may wait; who brings more of them waits too.
const NEWS_WAITING_MAX: usize = 64;

pub(crate) fn top(arguments: &TopArguments, format: Format) -> Ending {
    let at = match at(arguments) {
        Ok(at) => at,
        Err((why, ending)) => {
            complain(&why);
            return ending;
        }
    };
    match (arguments.once, format) {
        (true, format) => once(&at, arguments, format),
        (false, Format::Json) => stream(&at, arguments.interval),
        (false, Format::Text) if !io::stdout().is_terminal() || !io::stdin().is_terminal() => {
            complain("lb: a terminal is needed to look at; for anything else there is --once\n");
            Ending::Usage
        }
        (false, Format::Text) => live(at, arguments),
    }
}

/// Whom to ask.
fn at(arguments: &TopArguments) -> Result<String, (String, Ending)> {
    let config = match (&arguments.at, &arguments.config) {
        (Some(at), _) => return Ok(at.clone()),
        (None, None) => return Ok(AT.to_owned()),
        (None, Some(config)) => config,
    };
    let loaded = load_blocking(&Origin::File(config.clone()), Purpose::Check, None)
        .map_err(|error| (format!("lb: no runtime: {error}\n"), Ending::Failed))?;
    let Some(plan) = loaded.plan else {
        return Err((loaded.report.text("Nobody was asked."), Ending::Invalid));
    };
    let file = config.display();
    match plan.config.admin {
        Some(AdminAddress::Tcp(address)) if address.port() == 0 => {
            Err((format!("lb: [admin] in {file} leaves the port open; name it with --at\n"), Ending::Usage))
        }
        Some(AdminAddress::Tcp(mut address)) => {
            // Who listens everywhere listens here, too.
            if address.ip().is_unspecified() {
                address.set_ip(match address.ip() {
                    std::net::IpAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
                    std::net::IpAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
                });
            }
            Ok(address.to_string())
        }
        Some(unix @ AdminAddress::Unix(_)) => Ok(unix.to_string()),
        None => Err((format!("lb: {file} has no [admin], so nobody can be asked\n"), Ending::Usage)),
    }
}

/// The document as it came.
fn ask(at: &str) -> Result<(String, Stats), String> {
    let (status, body) = client::get(at, "/stats")?;
    if status != 200 {
        return Err(format!("{at} answered {status}: is it an `lb` of this version?"));
    }
    let stats: Stats = serde_json::from_str(&body)
        .map_err(|error| format!("{at} answered what is not understood: {error}"))?;
    if stats.version == VERSION {
        Ok((body, stats))
    } else {
        Err(format!("{at} answered in version {} of /stats; this `lb` reads {VERSION}", stats.version))
    }
}

fn once(at: &str, arguments: &TopArguments, format: Format) -> Ending {
    let (body, stats) = match ask(at) {
        Ok(answer) => answer,
        Err(why) => {
            complain(&format!("lb: not reachable: {why}\n"));
            return Ending::Failed;
        }
    };
    match format {
        Format::Json => print(&body),
        Format::Text => {
            let mut model = Model::new(at.to_owned(), arguments.filter.clone());
            model.take(Ok(Arc::new(stats)));
            print(&screen::page(&model, PAGE_WIDTH));
        }
    }
    Ending::Done
}

/// A document for each interval, one a line, until somebody ends it.
fn stream(at: &str, interval: Duration) -> Ending {
    use std::io::Write as _;
    loop {
        match ask(at) {
            Ok((body, _)) => {
                let mut out = io::stdout().lock();
                if out.write_all(body.as_bytes()).and_then(|()| out.flush()).is_err() {
                    return Ending::Done;
                }
            }
            Err(why) => complain(&format!("lb: not reachable: {why}\n")),
        }
        std::thread::park_timeout(interval);
    }
}

/// What the loop of the live view waits for.
enum News {
    Answer(Result<Arc<Stats>, String>),
    Key(Key),
    Resized,
    /// A signal, or no more keys.
    Stop,
}

fn live(at: String, arguments: &TopArguments) -> Ending {
    let (sender, news) = mpsc::sync_channel(NEWS_WAITING_MAX);
    let (ask_again, asked_again) = mpsc::channel();
    let threads = start_asking(at.clone(), arguments.interval, sender.clone(), asked_again)
        .and_then(|()| start_signals(sender.clone()))
        .and_then(|()| start_keys(sender));
    if let Err(error) = threads {
        complain(&format!("lb: no thread: {error}\n"));
        return Ending::Failed;
    }
    let mut model = Model::new(at, arguments.filter.clone());
    // This also sees to it that a panic gives the terminal back before it is told.
    let drawn =
        ratatui::try_init().and_then(|mut terminal| draw(&mut terminal, &mut model, &news, &ask_again));
    let restored = ratatui::try_restore();
    match drawn.and(restored) {
        Ok(()) => Ending::Done,
        Err(error) => {
            complain(&format!("lb: the terminal cannot be used: {error}\n"));
            Ending::Failed
        }
    }
}

fn draw(
    terminal: &mut ratatui::DefaultTerminal,
    model: &mut Model,
    news: &Receiver<News>,
    ask_again: &Sender<()>,
) -> io::Result<()> {
    let mut lost: Option<Instant> = None;
    loop {
        if let (Some(problem), Some(lost)) = (&mut model.unreachable, lost) {
            problem.seconds = lost.elapsed().as_secs_f64();
        }
        terminal.draw(|frame| {
            let area = frame.area();
            let lines = screen::screen(model, area.width, area.height);
            frame.render_widget(Text::from(lines), area);
        })?;
        match news.recv() {
            Ok(News::Answer(answer)) => {
                if answer.is_ok() {
                    lost = None;
                }
                model.take(answer.map_err(|why| {
                    let seconds = lost.get_or_insert_with(Instant::now).elapsed().as_secs_f64();
                    Unreachable { seconds, why }
                }));
            }
            Ok(News::Key(key)) => {
                if !model.key(key) {
                    return Ok(());
                }
                if key == Key::Char('p') && !model.paused {
                    let _ = ask_again.send(());
                }
            }
            Ok(News::Resized) => {}
            Ok(News::Stop) | Err(_) => return Ok(()),
        }
    }
}

fn start(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
    std::thread::Builder::new().name(name.to_owned()).spawn(run).map(drop)
}

/// Asks once for every interval, and when it is told to.
fn start_asking(
    at: String,
    interval: Duration,
    news: mpsc::SyncSender<News>,
    again: Receiver<()>,
) -> io::Result<()> {
    start("lb-top-asks", move || {
        loop {
            let answer = ask(&at).map(|(_, stats)| Arc::new(stats));
            if news.send(News::Answer(answer)).is_err() {
                return;
            }
            if again.recv_timeout(interval) == Err(RecvTimeoutError::Disconnected) {
                return;
            }
        }
    })
}

fn start_signals(news: mpsc::SyncSender<News>) -> io::Result<()> {
    let mut signals = signal_hook::iterator::Signals::new([SIGTERM, SIGINT, SIGHUP, SIGQUIT])?;
    start("lb-top-signals", move || {
        for _ in signals.forever() {
            if news.send(News::Stop).is_err() {
                return;
            }
        }
    })
}

fn start_keys(news: mpsc::SyncSender<News>) -> io::Result<()> {
    start("lb-top-keys", move || {
        loop {
            let next = match event::read() {
                Ok(Event::Key(pressed)) => key(pressed).map(News::Key),
                Ok(Event::Resize(..)) => Some(News::Resized),
                Ok(_) => None,
                // The terminal is gone.
                Err(_) => Some(News::Stop),
            };
            let Some(next) = next else { continue };
            let is_last = matches!(next, News::Stop);
            if news.send(next).is_err() || is_last {
                return;
            }
        }
    })
}

fn key(pressed: KeyEvent) -> Option<Key> {
    if pressed.kind == KeyEventKind::Release {
        return None;
    }
    let control = pressed.modifiers.contains(KeyModifiers::CONTROL);
    match pressed.code {
        KeyCode::Char('c') if control => Some(Key::Interrupt),
        KeyCode::Char(_) if control => None,
        KeyCode::Char(char) => Some(Key::Char(char)),
        KeyCode::Up => Some(Key::Up),
        KeyCode::Down => Some(Key::Down),
        KeyCode::PageUp => Some(Key::PageUp),
        KeyCode::PageDown => Some(Key::PageDown),
        KeyCode::Home => Some(Key::Home),
        KeyCode::End => Some(Key::End),
        KeyCode::Tab => Some(Key::Tab),
        KeyCode::BackTab => Some(Key::BackTab),
        KeyCode::Enter => Some(Key::Enter),
        KeyCode::Esc => Some(Key::Escape),
        KeyCode::Backspace => Some(Key::Backspace),
        _ => None,
    }
}
