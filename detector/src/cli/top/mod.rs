//! `detector top`: what speaks on this host, how much of it, and what is refused, as it changes.

mod draw;
mod rates;

use std::{
    io::{self, IsTerminal},
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use ratatui::{
    DefaultTerminal,
    crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers},
};

use self::{
    draw::Screen,
    rates::{Order, Row, Sample},
};
use super::{
    Done, Format, Global,
    ask::{try_ask, unexpected},
    pins::{self, Origin},
};
use crate::api::{CallError, Reply, Request};

/// Looks, draws, and does what keys say, until somebody quits.
pub(super) fn run(global: &Global, seconds: u64) -> Result<Done> {
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() || global.output == Format::Json {
        bail!(
            "top needs a terminal; `detector port list --watch`, also with `--output json`, prints to anything"
        );
    }
    // What cannot be had at all is said before the screen is taken.
    let first = sample(global)?;
    let mut terminal = ratatui::try_init()?;
    let done = live(&mut terminal, global, Duration::from_secs(seconds), first);
    ratatui::restore();
    done.map(|()| Done::Fine)
}

/// What a person has chosen to see.
#[derive(Debug, Default)]
struct Choice {
    order: Order,
    /// Uplinks and bridges, too.
    all: bool,
    /// The rows above this one have been scrolled away.
    first: usize,
}

enum Key {
    Quit,
    Other,
}

fn live(
    terminal: &mut DefaultTerminal,
    global: &Global,
    every: Duration,
    mut last: Sample,
) -> Result<()> {
    let mut choice = Choice::default();
    let mut rows = rates::rows(None, &last);
    let mut trouble = None;
    loop {
        let due = Instant::now() + every;
        loop {
            let shown = chosen(&rows, &choice);
            choice.first = choice.first.min(shown.len().saturating_sub(1));
            let screen = Screen {
                sample: &last,
                rows: &shown[choice.first..],
                count: shown.len(),
                order: choice.order,
                trouble: trouble.as_deref(),
            };
            terminal.draw(|frame| draw::draw(frame, &screen))?;
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() || !event::poll(left)? {
                break;
            }
            if let Event::Key(key) = event::read()?
                && let Key::Quit = press(&mut choice, key)
            {
                return Ok(());
            }
        }
        match sample(global) {
            Ok(next) => {
                rows = rates::rows(Some(&last), &next);
                (last, trouble) = (next, None);
            }
            Err(error) => trouble = Some(super::escape::escape(&format!("{error:#}"))),
        }
    }
}

fn chosen<'a>(rows: &'a [Row], choice: &Choice) -> Vec<&'a Row> {
    let mut shown: Vec<_> = rows.iter().filter(|row| choice.all || row.is_guest).collect();
    choice.order.sort(&mut shown);
    shown
}

/// Rows by which a page is turned.
const PAGE: usize = 10;

fn press(choice: &mut Choice, key: KeyEvent) -> Key {
    if key.kind != KeyEventKind::Press {
        return Key::Other;
    }
    match key.code {
        KeyCode::Char('q') | KeyCode::Esc => return Key::Quit,
        KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return Key::Quit,
        KeyCode::Char('s') => choice.order = choice.order.next(),
        KeyCode::Char('a') => choice.all = !choice.all,
        KeyCode::Down | KeyCode::Char('j') => choice.first += 1,
        KeyCode::Up | KeyCode::Char('k') => choice.first = choice.first.saturating_sub(1),
        KeyCode::PageDown => choice.first += PAGE,
        KeyCode::PageUp => choice.first = choice.first.saturating_sub(PAGE),
        KeyCode::Home => choice.first = 0,
        _ => (),
    }
    Key::Other
}

/// Asks the daemon, or reads the pins without it.
fn sample(global: &Global) -> Result<Sample> {
    let ports = try_ask(global, Request::PortList { counters: true })?;
    let at = Instant::now();
    match ports {
        Ok(Reply::Ports(ports)) => match try_ask(global, Request::Status {})? {
            Ok(Reply::Status(status)) => {
                Ok(Sample { at, origin: Origin::Daemon, ports, status: Some(status) })
            }
            Ok(other) => unexpected(&other),
            Err(error) => Err(error.into()),
        },
        Ok(other) => unexpected(&other),
        Err(CallError::Unreachable { .. } | CallError::Broken(_)) => {
            let ports = pins::read(&super::ask::pins(global)?)?.ports;
            Ok(Sample { at, origin: Origin::Pins, ports, status: None })
        }
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests;
