//! A server in a few lines: `cargo run -p parlour-serverd --example serve -- DATA_DIR`. Ends with the end of standard input.
#![expect(clippy::print_stdout, reason = "a program for people")]

use std::io::Read as _;

use parlour_serverd::config::RawConfig;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let data = std::env::args_os().nth(1).map(Into::into);
    let config = RawConfig { data, ..RawConfig::default() }.resolve()?;
    let running = match parlour_serverd::start(config).await {
        Ok(running) => running,
        Err(error) => return Err(format!("{error} ({})", error.hint()).into()),
    };
    println!("{}\n{}", running.server_url(), running.admin);
    tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())).await??;
    running.stop();
    running.join().await;
    Ok(())
}
