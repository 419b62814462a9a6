//! The screen.

use ratatui::{
    Frame,
    layout::{Constraint, Layout},
    style::{Color, Modifier, Style},
    text::{Line, Span},
    widgets::{Cell, Paragraph, Row as TableRow, Table},
};

use super::rates::{Order, Row, Sample};
use crate::{
    api::view::{ModeView, PortState},
    cli::{escape::escape, pins::Origin},
};

pub(super) struct Screen<'a> {
    pub(super) sample: &'a Sample,
    /// From the first that is on the screen on.
    pub(super) rows: &'a [&'a Row],
    /// With those that are scrolled away.
    pub(super) count: usize,
    pub(super) order: Order,
    /// Why the figures are old.
    pub(super) trouble: Option<&'a str>,
}

pub(super) fn draw(frame: &mut Frame<'_>, screen: &Screen<'_>) {
    let [head, table, foot] =
        Layout::vertical([Constraint::Length(2), Constraint::Min(1), Constraint::Length(1)])
            .areas(frame.area());
    frame.render_widget(Paragraph::new(vec![summary(screen), trouble(screen)]), head);
    frame.render_widget(ports(screen.rows), table);
    frame.render_widget(Paragraph::new(keys(screen)), foot);
}

fn coloured(colour: Color) -> Style {
    match std::env::var_os("NO_COLOR") {
        Some(value) if !value.is_empty() => Style::new(),
        _ => Style::new().fg(colour),
    }
}

fn summary(screen: &Screen<'_>) -> Line<'static> {
    let Some(status) = &screen.sample.status else {
        return Line::styled(
            "The daemon does not answer: this is what the pinned maps hold",
            coloured(Color::Yellow),
        );
    };
    let mode = match status.mode {
        ModeView::Enforce => Span::styled("enforce", coloured(Color::Green)),
        ModeView::Observe => Span::styled("observe", coloured(Color::Yellow)),
        ModeView::None => Span::styled("no mode yet", coloured(Color::Yellow)),
    };
    let vms: Vec<_> = status.vms.iter().map(|(name, count)| format!("{count} {name}")).collect();
    let vms = if vms.is_empty() { "none".to_owned() } else { vms.join(", ") };
    let findings = status.findings.len();
    let attention = if findings == 0 { Style::new() } else { coloured(Color::Red) };
    Line::from(vec![
        mode,
        Span::raw(format!("   VMs: {vms}   quarantines: {}   ", status.quarantines)),
        Span::styled(format!("findings: {findings}"), attention),
    ])
}

fn trouble(screen: &Screen<'_>) -> Line<'static> {
    let text = screen.trouble.map(|why| format!("These figures are old: {why}"));
    Line::styled(text.unwrap_or_default(), coloured(Color::Red))
}

fn ports(rows: &[&Row]) -> Table<'static> {
    let right = |name: &'static str| Line::from(name).right_aligned();
    let [port, vm, status, most] = ["PORT", "VM", "STATUS", "MOST REFUSED AS"].map(Line::from);
    let [from, to, refused] = ["FROM/s", "TO/s", "REFUSED/s"].map(right);
    let header = [port, vm, status, from, to, refused, most];
    let widths = [
        Constraint::Max(16),
        Constraint::Fill(2),
        Constraint::Length(9),
        Constraint::Length(9),
        Constraint::Length(9),
        Constraint::Length(9),
        Constraint::Fill(3),
    ];
    let lines = rows.iter().map(|row| {
        let colour = match row.state {
            PortState::Granted => Color::Green,
            PortState::Isolated => Color::Red,
            PortState::Pending | PortState::Kept | PortState::Unguarded => Color::Yellow,
            PortState::Gate => Color::Reset,
        };
        let tone = if row.refused > 0.0 { coloured(Color::Red) } else { Style::new() };
        TableRow::new(vec![
            Cell::new(escape(&row.name)),
            Cell::new(escape(&row.vm)),
            Cell::new(row.state.as_str()).style(coloured(colour)),
            number(row.from, Style::new()),
            number(row.to, Style::new()),
            number(row.refused, tone),
            Cell::new(escape(&row.reason)),
        ])
    });
    Table::new(lines, widths)
        .header(TableRow::new(header).style(Style::new().add_modifier(Modifier::BOLD)))
        .column_spacing(2)
}

fn number(rate: f64, style: Style) -> Cell<'static> {
    let text = match rate {
        0.0 => "0".to_owned(),
        rate if rate < 10.0 => format!("{rate:.1}"),
        rate if rate < 1e6 => format!("{rate:.0}"),
        rate => format!("{:.1} M", rate / 1e6),
    };
    Cell::new(Line::from(text).right_aligned()).style(style)
}

fn keys(screen: &Screen<'_>) -> Line<'static> {
    let source = match screen.sample.origin {
        Origin::Daemon => "",
        Origin::Pins => ", by the pins",
    };
    let noun = if screen.count == 1 { "port" } else { "ports" };
    let text = format!(
        "{} {noun}{source}, by {}   q quit  s order  a uplinks and bridges  ↑↓ scroll",
        screen.count,
        screen.order.as_str(),
    );
    Line::styled(text, Style::new().add_modifier(Modifier::DIM))
}
