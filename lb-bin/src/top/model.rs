//! What is known, and what a person has chosen to see.

use std::sync::Arc;

use lb_control::stats::document::Stats;

use super::panels::{Order, Panel, Subject};

/// Characters of a filter at most.
const FILTER_LEN_MAX: usize = 64;

/// A key, as far as it means something here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Key {
    Char(char),
    Up,
    Down,
    PageUp,
    PageDown,
    Home,
    End,
    Tab,
    BackTab,
    Enter,
    Escape,
    Backspace,
    /// Control and C.
    Interrupt,
}

/// That it cannot be asked.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Unreachable {
    /// For how long.
    pub seconds: f64,
    pub why: String,
}

/// Everything that the screen is made of.
#[derive(Debug, Clone, Default)]
pub(crate) struct Model {
    /// Whom we ask.
    pub at: String,
    /// What it last said.
    pub stats: Option<Arc<Stats>>,
    pub unreachable: Option<Unreachable>,
    pub filter: String,
    /// A filter that is being typed.
    pub typing: Option<String>,
    pub order: Order,
    pub focus: Subject,
    /// Only the table that is looked at is shown.
    pub zoomed: bool,
    /// What comes is not taken up.
    pub paused: bool,
    scroll: [Scroll; Subject::ALL.len()],
    present: Vec<Subject>,
}

/// How far a table is scrolled.
#[derive(Debug, Clone, Copy, Default)]
struct Scroll {
    from: usize,
    /// Rows that were shown of it last.
    rows: usize,
    /// Rows that it had.
    all: usize,
}

impl Model {
    /// One that knows nothing yet.
    pub(crate) fn new(at: String, filter: Option<String>) -> Model {
        Model { at, filter: filter.unwrap_or_default(), ..Model::default() }
    }

    /// Takes what was said. The old is kept while it cannot be asked.
    pub(crate) fn take(&mut self, answer: Result<Arc<Stats>, Unreachable>) {
        match answer {
            Ok(stats) => {
                self.unreachable = None;
                if !self.paused || self.stats.is_none() {
                    self.stats = Some(stats);
                }
            }
            Err(problem) => self.unreachable = Some(problem),
        }
    }

    /// Does what a key says; whether to go on.
    pub(crate) fn key(&mut self, key: Key) -> bool {
        if key == Key::Interrupt {
            return false;
        }
        if let Some(typed) = &mut self.typing {
            match key {
                Key::Enter => {
                    self.filter = self.typing.take().unwrap_or_default();
                    self.scroll = Default::default();
                }
                Key::Escape => self.typing = None,
                Key::Backspace => {
                    typed.pop();
                }
                Key::Char(char) if typed.chars().count() < FILTER_LEN_MAX => typed.push(char),
                _ => {}
            }
            return true;
        }
        let page = self.scroll_of(self.focus).rows.max(1) as isize;
        match key {
            Key::Char('q') => return false,
            Key::Char('/') => self.typing = Some(self.filter.clone()),
            Key::Char('s') => self.order = self.order.next(),
            Key::Char('p') => self.paused = !self.paused,
            Key::Tab => self.turn(1),
            Key::BackTab => self.turn(self.present.len().saturating_sub(1)),
            Key::Enter => self.zoomed = !self.zoomed,
            Key::Escape if self.zoomed => self.zoomed = false,
            Key::Escape => self.filter.clear(),
            Key::Up | Key::Char('k') => self.move_by(-1),
            Key::Down | Key::Char('j') => self.move_by(1),
            Key::PageUp => self.move_by(-page),
            Key::PageDown | Key::Char(' ') => self.move_by(page),
            Key::Home | Key::Char('g') => self.move_by(isize::MIN),
            Key::End | Key::Char('G') => self.move_by(isize::MAX),
            _ => {}
        }
        true
    }

    fn turn(&mut self, by: usize) {
        let place = self.present.iter().position(|it| *it == self.focus);
        let Some(next) = self.present.get((place.unwrap_or(0) + by) % self.present.len().max(1)) else {
            return;
        };
        self.focus = *next;
    }

    fn scroll_of(&mut self, subject: Subject) -> &mut Scroll {
        &mut self.scroll[subject as usize]
    }

    fn move_by(&mut self, rows: isize) {
        let scroll = self.scroll_of(self.focus);
        let last = scroll.all.saturating_sub(scroll.rows);
        scroll.from = scroll.from.saturating_add_signed(rows).min(last);
    }

    /// Takes notice of which tables there are.
    pub(crate) fn fit(&mut self, panels: &[Panel]) {
        self.present = panels.iter().map(|it| it.subject).collect();
        if !self.present.contains(&self.focus) {
            self.focus = Subject::default();
        }
    }

    /// The first row to be shown of a table with `all` rows, of which `rows` have room.
    pub(crate) fn scrolled(&mut self, subject: Subject, all: usize, rows: usize) -> usize {
        let scroll = self.scroll_of(subject);
        let from = scroll.from.min(all.saturating_sub(rows));
        *scroll = Scroll { from, rows, all };
        from
    }
}
