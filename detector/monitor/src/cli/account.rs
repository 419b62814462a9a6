use std::{
    io::{BufRead, IsTerminal},
    process::ExitCode,
};

use anyhow::{Context, Result};

use super::{
    args::{AccountCommand, Global},
    output::print,
    serve::config,
};
use crate::accounts::Accounts;

pub(super) fn run(global: &Global, command: &AccountCommand) -> Result<ExitCode> {
    let path = config(global)?.accounts;
    let mut accounts = Accounts::read(&path)?;
    match command {
        AccountCommand::Add { name, role, no_password } => {
            let password = if *no_password { None } else { Some(password()?) };
            accounts.put(name, (*role).into(), password.as_deref())?;
            accounts.write(&path)?;
        }
        AccountCommand::Remove { name } => {
            accounts.remove(name)?;
            accounts.write(&path)?;
        }
        AccountCommand::List => {
            let word = |has: bool| if has { "password" } else { "proxy only" }.to_owned();
            let rows = accounts.list().map(|(name, role, has)| {
                vec![name.to_owned(), role.as_str().to_owned(), word(has)]
            });
            let rows: Vec<_> = rows.collect();
            print(global.output, &rows, &["NAME", "ROLE", "LOGIN"], rows.clone())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What is typed, unseen, or one line of standard input.
fn password() -> Result<String> {
    if std::io::stdin().is_terminal() {
        return rpassword::prompt_password("Password: ").context("cannot read the password");
    }
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).context("cannot read the password")?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}
