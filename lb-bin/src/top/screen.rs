//! The screen as lines: pure, from what is known and what a person has chosen to see.

use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};

use lb_control::stats::document::{Lately, Stats};

use super::model::Model;
use super::numbers::{age, count, percent, rate};
use super::panels::{Column, FLEXIBLE_MIN, Panel, Row, Tone, panels};

/// Below this a screen has no room for tables.
pub(crate) const WIDTH_MIN: u16 = 60;
/// The same for its height.
pub(crate) const HEIGHT_MIN: u16 = 12;

/// Characters of a hash that tell people which one it is.
const HASH_SHORT: usize = 8;

/// The whole screen: as many lines as it is high. Says the model how far each table can be scrolled.
pub(crate) fn screen(model: &mut Model, width: u16, height: u16) -> Vec<Line<'static>> {
    if width < WIDTH_MIN || height < HEIGHT_MIN {
        let words = format!("{WIDTH_MIN} x {HEIGHT_MIN} are needed, here are {width} x {height}");
        return vec![Line::from(words)];
    }
    let mut lines = header(model, width);
    let room = usize::from(height) - lines.len() - 1;
    match model.stats.clone() {
        None => lines.push(Line::from("")),
        Some(stats) => {
            let panels = panels(&stats, &model.filter, model.order);
            model.fit(&panels);
            let shown: Vec<&Panel> =
                panels.iter().filter(|it| !model.zoomed || it.subject == model.focus).collect();
            let rows = heights(&shown, room - shown.len(), model);
            for (panel, rows) in shown.into_iter().zip(rows) {
                lines.extend(table(panel, rows, width, model));
            }
        }
    }
    lines.resize(usize::from(height) - 1, Line::default());
    lines.push(footer(model, width));
    lines
}

/// The same for who cannot scroll: everything, without colours and keys.
pub(crate) fn page(model: &Model, width: u16) -> String {
    let mut lines: Vec<Line<'static>> = header(model, width);
    if let Some(stats) = &model.stats {
        for panel in panels(stats, &model.filter, model.order) {
            lines.push(Line::default());
            lines.push(Line::from(format!("  {}", titles(panel.columns, None, width))));
            if panel.rows.is_empty() {
                lines.push(Line::from(format!("  {}", panel.empty)));
            }
            let rows = panel.rows.iter();
            lines.extend(
                rows.map(|row| Line::from(format!("{}{}", mark(row.tone), line(panel.columns, row, width)))),
            );
        }
    }
    let lines = lines.iter().map(|line| line.to_string().trim_end().to_owned() + "\n");
    lines.collect()
}

fn bold() -> Style {
    Style::new().add_modifier(Modifier::BOLD)
}

fn style(tone: Tone) -> Style {
    match tone {
        Tone::Bad => Style::new().fg(Color::Red),
        Tone::Odd => Style::new().fg(Color::Yellow),
        Tone::Plain => Style::new(),
        Tone::Quiet => Style::new().add_modifier(Modifier::DIM),
    }
}

/// The same for who sees no colours.
fn mark(tone: Tone) -> &'static str {
    match tone {
        Tone::Bad => "! ",
        Tone::Odd => "~ ",
        Tone::Plain | Tone::Quiet => "  ",
    }
}

/// Two lines: where and what it is, and what comes; if it cannot be asked, since when.
fn header(model: &Model, width: u16) -> Vec<Line<'static>> {
    let mut first = vec![Span::styled("lb top", bold()), Span::from(format!("  {}", clean(&model.at)))];
    if let Some(stats) = &model.stats {
        let process = &stats.process;
        let state = if process.state == "ready" { Style::new() } else { style(Tone::Odd) };
        first.push(Span::from("  "));
        first.push(Span::styled(clean(&process.state), state));
        let words = format!(
            " for {} · {}, {} worker{} · lb {}",
            age(stats.at - process.started),
            clean(&process.driver),
            stats.workers.len(),
            if stats.workers.len() == 1 { "" } else { "s" },
            clean(&process.version),
        );
        first.push(Span::from(words));
    }
    let second = match (&model.unreachable, &model.stats) {
        (Some(problem), known) => {
            let old = if known.is_some() { ", what follows is from before" } else { "" };
            let words = format!("NOT REACHABLE for {}{old}: {}", age(problem.seconds), clean(&problem.why));
            vec![Span::styled(words, style(Tone::Bad).add_modifier(Modifier::BOLD))]
        }
        (None, None) => vec![Span::from("asking …")],
        (None, Some(stats)) => traffic(stats),
    };
    let mut lines = vec![cut(Line::from(first), width), cut(Line::from(second), width)];
    if let Some(stats) = &model.stats {
        let omitted = &stats.omitted;
        let parts = [
            ("routes", omitted.routes),
            ("backends", omitted.backends),
            ("servers", omitted.servers),
            ("arms unwatched", omitted.unwatched_arms),
        ];
        let parts = parts.iter().filter(|(_, count)| *count > 0);
        let parts: Vec<String> = parts.map(|(word, number)| format!("{} {word}", count(*number))).collect();
        if !parts.is_empty() {
            let words = format!("not shown, there are too many: {}", parts.join(", "));
            lines.push(cut(Line::from(Span::styled(words, style(Tone::Odd))), width));
        }
    }
    lines
}

fn traffic(stats: &Stats) -> Vec<Span<'static>> {
    let sum = |of: fn(&Lately) -> f64| -> f64 {
        stats.listeners.iter().filter_map(|it| it.lately.as_ref()).map(of).sum()
    };
    let all = sum(|it| it.count as f64);
    let of = |hundred: &'static str| -> f64 {
        let counts = stats.listeners.iter().filter_map(|it| it.lately.as_ref()?.statuses.get(hundred));
        counts.map(|count| *count as f64).sum()
    };
    let mut spans = vec![Span::styled(format!("{}/s", rate(sum(|it| it.rate))), bold())];
    for (hundred, tone) in
        [("2xx", Tone::Plain), ("3xx", Tone::Plain), ("4xx", Tone::Plain), ("5xx", Tone::Bad)]
    {
        let count = of(hundred);
        if count > 0.0 {
            spans.push(Span::from(" · "));
            spans.push(Span::styled(format!("{hundred} {}", percent(count / all)), style(tone)));
        }
    }
    let connections: u64 = stats.listeners.iter().map(|it| it.connections).sum();
    let hash = clean(&stats.snapshot.hash);
    let hash: String = hash.chars().take(HASH_SHORT).collect();
    let generation = stats.snapshot.generation;
    let words = format!(" · {} connections · snapshot {hash}, gen {generation}", count(connections));
    spans.push(Span::from(words));
    spans
}

fn footer(model: &Model, width: u16) -> Line<'static> {
    if let Some(typed) = &model.typing {
        let words = format!("filter: {}▏", clean(typed));
        return cut(
            Line::from(vec![Span::styled(words, bold()), Span::from("  Enter: take it  Esc: leave it")]),
            width,
        );
    }
    let key = |key: &'static str| Span::styled(key, bold());
    let pause = if model.paused { " go on" } else { " pause" };
    let zoom = if model.zoomed { " all" } else { " zoom" };
    let mut spans = vec![
        key("q"),
        Span::from(" quit  "),
        key("Tab"),
        Span::from(" table  "),
        key("↑↓"),
        Span::from(" scroll  "),
        key("Enter"),
        Span::from(format!("{zoom}  ")),
        key("s"),
        Span::from(format!(" {}  ", model.order.word())),
        key("p"),
        Span::from(format!("{pause}  ")),
        key("/"),
        Span::from(" filter"),
    ];
    if !model.filter.is_empty() {
        spans.push(Span::styled(format!(" {}", clean(&model.filter)), style(Tone::Odd)));
    }
    cut(Line::from(spans), width)
}

/// How many rows each table gets: what it needs at least, the rest for the one that is looked at, and what that one
/// does not need for the others in their order.
fn heights(panels: &[&Panel], room: usize, model: &Model) -> Vec<usize> {
    let wanted = |panel: &Panel| panel.rows.len().max(1);
    let mut rows: Vec<usize> = panels.iter().map(|it| wanted(it).min(it.subject.rows_min())).collect();
    // A small screen has not even that.
    while rows.iter().sum::<usize>() > room {
        let Some(largest) = rows.iter_mut().max().filter(|rows| **rows > 0) else { break };
        *largest -= 1;
    }
    let mut left = room - rows.iter().sum::<usize>();
    let focus = panels.iter().position(|it| it.subject == model.focus);
    for place in focus.into_iter().chain(0..panels.len()) {
        let more = left.min(wanted(panels[place]) - rows[place]);
        rows[place] += more;
        left -= more;
    }
    rows
}

fn table(panel: &Panel, rows: usize, width: u16, model: &mut Model) -> Vec<Line<'static>> {
    let focused = panel.subject == model.focus;
    let from = model.scrolled(panel.subject, panel.rows.len(), rows);
    let place =
        (rows < panel.rows.len()).then(|| format!("{}-{}/{}", from + 1, from + rows, panel.rows.len()));
    let title = titles(panel.columns, place.as_deref(), width);
    let look = if focused {
        bold().add_modifier(Modifier::REVERSED)
    } else {
        bold().add_modifier(Modifier::UNDERLINED)
    };
    let title = format!("{}{title}", if focused { "▸ " } else { "  " });
    let mut lines = vec![Line::from(Span::styled(pad(&title, width), look))];
    if panel.rows.is_empty() && rows > 0 {
        lines.push(Line::from(Span::styled(format!("  {}", panel.empty), style(Tone::Quiet))));
    }
    let shown = panel.rows.iter().skip(from).take(rows);
    lines.extend(shown.map(|row| {
        Line::from(Span::styled(
            format!("{}{}", mark(row.tone), line(panel.columns, row, width)),
            style(row.tone),
        ))
    }));
    lines
}

/// The titles; where one is stands in the column that has the most room.
fn titles(columns: &[Column], place: Option<&str>, width: u16) -> String {
    let title = |_, column: &Column| match place {
        Some(place) if column.width == 0 => format!("{} {place}", column.title).trim_start().to_owned(),
        _ => column.title.to_owned(),
    };
    cells(columns, title, width)
}

fn line(columns: &[Column], row: &Row, width: u16) -> String {
    cells(columns, |at, _| row.cells.get(at).cloned().unwrap_or_default(), width)
}

/// Cells side by side, each cut and filled to the width of its column, after two columns for a mark.
fn cells(columns: &[Column], cell: impl Fn(usize, &Column) -> String, width: u16) -> String {
    let shown = || columns.iter().enumerate().filter(|(_, it)| it.from <= width && width < it.until);
    let fixed: u16 = shown().map(|(_, it)| it.width + 1).sum();
    // Two columns are the mark's; before the first one there is no space.
    let flexible = width.saturating_sub(fixed + 1).max(FLEXIBLE_MIN);
    let mut text = String::new();
    for (place, (at, column)) in shown().enumerate() {
        let room = usize::from(if column.width == 0 { flexible } else { column.width });
        let cell = cell(at, column);
        let cell = if column.is_name { fit_name(&cell, room) } else { fit(&cell, room) };
        let space = " ".repeat(room - cell.chars().count());
        if place > 0 {
            text.push(' ');
        }
        text.extend(if column.right { [space.as_str(), &cell] } else { [cell.as_str(), &space] });
    }
    // On a narrow screen the last ones have no room.
    text.chars().take(usize::from(width.saturating_sub(2))).collect()
}

/// A text in at most so many columns.
fn fit(text: &str, room: usize) -> String {
    let clean = clean(text);
    if clean.chars().count() <= room {
        return clean;
    }
    let mut cut: String = clean.chars().take(room.saturating_sub(1)).collect();
    cut.push('…');
    cut
}

/// A name in at most so many columns. What comes after the last slash tells more than what comes before.
fn fit_name(text: &str, room: usize) -> String {
    match text.rsplit_once('/') {
        Some((start, end)) if text.chars().count() > room && end.chars().count() + 4 < room => {
            format!("{}/{}", fit(start, room - 1 - end.chars().count()), clean(end))
        }
        _ => fit(text, room),
    }
}

/// Without anything that a terminal would obey.
fn clean(text: &str) -> String {
    text.chars().map(|it| if it.is_control() { '\u{fffd}' } else { it }).collect()
}

fn pad(text: &str, width: u16) -> String {
    let text = fit(text, usize::from(width));
    let space = usize::from(width) - text.chars().count();
    text + &" ".repeat(space)
}

/// Cuts a line to a width.
fn cut(line: Line<'static>, width: u16) -> Line<'static> {
    let mut room = usize::from(width);
    let mut spans = Vec::new();
    for span in line.spans {
        let text = fit(&span.content, room);
        room -= text.chars().count();
        spans.push(Span::styled(text, span.style));
        if room == 0 {
            break;
        }
    }
    Line::from(spans)
}
