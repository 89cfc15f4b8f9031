//! What this machine is. Its name is nobody's business.

use std::fs;

use super::document::Machine;

/// As far as `/proc` tells.
pub(super) fn this_one() -> Machine {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let kernel = read("/proc/sys/kernel/osrelease").trim().to_owned();
    Machine {
        cores: std::thread::available_parallelism().map_or(0, |cores| cores.get() as u64),
        cpu: field(&read("/proc/cpuinfo"), "model name"),
        kernel: Some(kernel).filter(|kernel| !kernel.is_empty()),
        memory_kib: field(&read("/proc/meminfo"), "MemTotal").and_then(|size| kib(&size)),
    }
}

/// The first `name: value` of that name.
fn field(text: &str, name: &str) -> Option<String> {
    let mut pairs = text.lines().filter_map(|line| line.split_once(':'));
    pairs.find(|pair| pair.0.trim() == name).map(|pair| pair.1.trim().to_owned())
}

fn kib(size: &str) -> Option<u64> {
    size.strip_suffix(" kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let text = "processor\t: 0\nmodel\t\t: 1\nmodel name\t: Some CPU @ 2: fast\nmodel name\t: other\n";
        assert_eq!(field(text, "model name").as_deref(), Some("Some CPU @ 2: fast"));
        assert_eq!(field(text, "cores"), None);
        assert_eq!(
            field("MemTotal:        4028416 kB\n", "MemTotal").as_deref().and_then(kib),
            Some(4_028_416)
        );
    }

    #[test]
    fn linux_tells_kernel_and_memory() {
        let machine = this_one();
        assert!(machine.cores > 0 && machine.kernel.is_some() && machine.memory_kib.is_some(), "{machine:?}");
    }
}
