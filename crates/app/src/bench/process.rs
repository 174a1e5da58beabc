//! What the kernel says about the server process: memory and processor time (Linux, /proc).

use std::{fs, io};

/// Proportional set size in bytes (shared pages counted in part), from `smaps_rollup`.
pub(crate) fn pss(pid: u32) -> io::Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    kilobytes(&text, "Pss:").map(|kb| kb * 1024).ok_or_else(|| io::Error::other("no Pss in smaps_rollup"))
}

/// Resident set size in bytes.
pub(crate) fn rss(pid: u32) -> io::Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
    kilobytes(&text, "VmRSS:").map(|kb| kb * 1024).ok_or_else(|| io::Error::other("no VmRSS in status"))
}

fn kilobytes(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key))?.split_whitespace().next()?.parse().ok()
}

/// Processor time of a process so far, user and system, in seconds.
pub(crate) fn cpu_seconds(pid: u32) -> io::Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The command may hold spaces; fields count from behind its closing parenthesis.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks: u64 = [11, 12].iter().filter_map(|i| fields.get(*i)?.parse::<u64>().ok()).sum();
    // Linux fixes the unit that it shows to user space at 100 a second (USER_HZ).
    Ok(ticks as f64 / 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_and_processor_time() {
        let pid = std::process::id();
        assert!(rss(pid).unwrap() > 1024);
        assert!(pss(pid).unwrap() > 1024);
        assert!(cpu_seconds(pid).unwrap() >= 0.0);
    }
}
