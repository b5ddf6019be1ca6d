//! Which system calls a function may make.
//!
//! Two filters: the first lets through what programs need and answers ENOSYS to everything else, so that a C library falls back
//! as it would on an older kernel (`clone3` above all, whose flags a filter cannot read). The second answers EPERM where
//! falling back would hide that something is forbidden, and looks at arguments: namespaces in `clone`, kinds of sockets,
//! terminal injection. Both hold for the init and everything below it, and can never be taken off.
//!
//! Whoever installs a filter has the kernel try it for every call there is, so numbers are looked for in a tree: a list took 0.7 ms.
//! The first is installed once, by the process that all inits are forked from, which all inherit, and lets through what they make
//! an environment with ([`UNTIL_GIVEN_UP`]). The second, which comes last, denies those.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch,
};

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

mod tree;

/// The compiled filters, made once by the helper and inherited by every init.
pub(crate) struct Filters {
    allow: BpfProgram,
    deny: BpfProgram,
}

impl Filters {
    /// Compiles both.
    pub(crate) fn compile() -> Result<Filters, String> {
        let arch: TargetArch =
            std::env::consts::ARCH.try_into().map_err(|error| format!("no system call filter: {error}"))?;
        let allowed = ALLOWED.iter().chain(ALLOWED_ON_THIS_PROCESSOR).chain(UNTIL_GIVEN_UP).copied();
        let allow = tree::program(
            allowed,
            tree::answer(SeccompAction::Allow),
            &[tree::answer(SeccompAction::Errno(libc::ENOSYS as u32))],
        )?;
        let refuse = SeccompAction::Errno(libc::EPERM as u32);
        let arguments =
            SeccompFilter::new(denied().map_err(text)?, SeccompAction::Allow, refuse.clone(), arch)
                .and_then(BpfProgram::try_from)
                .map_err(text)?;
        let deny = tree::program(DENIED.iter().copied(), tree::answer(refuse), &arguments)?;
        Ok(Filters { allow, deny })
    }

    /// Installs the first for this process and all its future children.
    pub(crate) fn install_allowed(&self) -> Result<(), String> {
        seccompiler::apply_filter(&self.allow).map_err(|error| error.to_string())
    }

    /// Installs the second, which also forbids to install more.
    pub(crate) fn install_denied(&self) -> Result<(), String> {
        seccompiler::apply_filter(&self.deny).map_err(|error| error.to_string())
    }
}

fn text(error: seccompiler::BackendError) -> String {
    error.to_string()
}

fn when(conditions: &[(u8, SeccompCmpOp, u64)]) -> Result<SeccompRule, seccompiler::BackendError> {
    let conditions = conditions
        .iter()
        .map(|(index, operator, value)| {
            SeccompCondition::new(*index, SeccompCmpArgLen::Dword, operator.clone(), *value)
        })
        .collect::<Result<Vec<_>, _>>()?;
    SeccompRule::new(conditions)
}

/// The second filter's rules on arguments: what is answered with EPERM beside [`DENIED`].
fn denied() -> Result<Rules, seccompiler::BackendError> {
    let mut rules = Rules::new();

    // New namespaces, one rule per flag.
    let namespaces = [
        libc::CLONE_NEWNS,
        libc::CLONE_NEWCGROUP,
        libc::CLONE_NEWUTS,
        libc::CLONE_NEWIPC,
        libc::CLONE_NEWUSER,
        libc::CLONE_NEWPID,
        libc::CLONE_NEWNET,
    ];
    let clone = namespaces
        .iter()
        .map(|flag| {
            let flag = *flag as u32 as u64;
            when(&[(0, SeccompCmpOp::MaskedEq(flag), flag)])
        })
        .collect::<Result<Vec<_>, _>>()?;
    rules.insert(libc::SYS_clone, clone);

    rules.insert(libc::SYS_socket, sockets()?);
    rules.insert(libc::SYS_socketpair, vec![when(&[(0, SeccompCmpOp::Ne, libc::AF_UNIX as u64)])?]);

    // Typing into a terminal on somebody else's behalf.
    rules.insert(
        libc::SYS_ioctl,
        vec![
            when(&[(1, SeccompCmpOp::Eq, TERMINAL_TYPE)])?,
            when(&[(1, SeccompCmpOp::Eq, TERMINAL_CONSOLE)])?,
        ],
    );

    // Execution domains, except Linux, its 32-bit appearance, no address randomisation less, and the question itself.
    let plain = [0, 0x0008, 0x2_0000, 0x2_0008, 0xffff_ffff];
    let differs: Vec<_> = plain.iter().map(|value| (0, SeccompCmpOp::Ne, *value)).collect();
    rules.insert(libc::SYS_personality, vec![when(&differs)?]);
    Ok(rules)
}

/// Sockets that are refused: every family but local, internet and the one netlink protocol that lists addresses, and raw ones.
fn sockets() -> Result<Vec<SeccompRule>, seccompiler::BackendError> {
    const TYPE_MASK: u64 = 0xf;
    let netlink = libc::AF_NETLINK as u64;
    Ok(vec![
        when(&[
            (0, SeccompCmpOp::Ne, libc::AF_UNIX as u64),
            (0, SeccompCmpOp::Ne, libc::AF_INET as u64),
            (0, SeccompCmpOp::Ne, libc::AF_INET6 as u64),
            (0, SeccompCmpOp::Ne, netlink),
        ])?,
        when(&[(0, SeccompCmpOp::Eq, netlink), (2, SeccompCmpOp::Ne, libc::NETLINK_ROUTE as u64)])?,
        when(&[
            (0, SeccompCmpOp::Ne, netlink),
            (1, SeccompCmpOp::MaskedEq(TYPE_MASK), libc::SOCK_RAW as u64),
        ])?,
        when(&[(1, SeccompCmpOp::MaskedEq(TYPE_MASK), SOCKET_PACKET)])?,
    ])
}

/// What environments are made with, between the two filters; the second denies each.
const UNTIL_GIVEN_UP: &[i64] = &[
    libc::SYS_mount,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_pivot_root,
    libc::SYS_seccomp,
    libc::SYS_sethostname,
    libc::SYS_setns,
    libc::SYS_umount2,
    libc::SYS_unshare,
];

/// What would be refused by the first filter already, but with an answer that invites a fallback.
const DENIED: &[i64] = &[
    libc::SYS_acct,
    libc::SYS_add_key,
    libc::SYS_adjtimex,
    libc::SYS_bpf,
    libc::SYS_chroot,
    libc::SYS_clock_adjtime,
    libc::SYS_clock_settime,
    libc::SYS_delete_module,
    libc::SYS_fanotify_init,
    libc::SYS_finit_module,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fsopen,
    libc::SYS_fspick,
    libc::SYS_init_module,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_io_uring_setup,
    libc::SYS_kcmp,
    libc::SYS_kexec_load,
    libc::SYS_keyctl,
    libc::SYS_mount,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_name_to_handle_at,
    libc::SYS_open_by_handle_at,
    libc::SYS_open_tree,
    libc::SYS_perf_event_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_pivot_root,
    libc::SYS_process_madvise,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_ptrace,
    libc::SYS_quotactl,
    libc::SYS_reboot,
    libc::SYS_request_key,
    libc::SYS_seccomp,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_setns,
    libc::SYS_settimeofday,
    libc::SYS_swapoff,
    libc::SYS_swapon,
    libc::SYS_syslog,
    libc::SYS_umount2,
    libc::SYS_unshare,
    libc::SYS_userfaultfd,
    libc::SYS_vhangup,
];

/// What programs need: CPython, Node.js, the C library, statically linked Go and Rust, shells and what they call.
#[rustfmt::skip]
const ALLOWED: &[i64] = &[
    // files
    libc::SYS_openat, libc::SYS_openat2, libc::SYS_close, libc::SYS_close_range, libc::SYS_read, libc::SYS_readv,
    libc::SYS_pread64, libc::SYS_preadv, libc::SYS_preadv2, libc::SYS_write, libc::SYS_writev, libc::SYS_pwrite64,
    libc::SYS_pwritev, libc::SYS_pwritev2, libc::SYS_lseek, libc::SYS_fallocate, libc::SYS_ftruncate,
    libc::SYS_truncate, libc::SYS_fsync, libc::SYS_fdatasync, libc::SYS_sync_file_range, libc::SYS_syncfs,
    libc::SYS_sync, libc::SYS_fadvise64, libc::SYS_readahead, libc::SYS_copy_file_range, libc::SYS_sendfile,
    libc::SYS_splice, libc::SYS_tee, libc::SYS_vmsplice, libc::SYS_dup, libc::SYS_dup3, libc::SYS_fcntl,
    libc::SYS_flock, libc::SYS_ioctl, libc::SYS_pipe2, libc::SYS_getdents64, libc::SYS_getcwd, libc::SYS_chdir,
    libc::SYS_fchdir, libc::SYS_mkdirat, libc::SYS_mknodat, libc::SYS_unlinkat, libc::SYS_linkat,
    libc::SYS_symlinkat, libc::SYS_readlinkat, libc::SYS_renameat2, libc::SYS_faccessat, libc::SYS_faccessat2,
    libc::SYS_fchmod, libc::SYS_fchmodat, libc::SYS_fchown, libc::SYS_fchownat, libc::SYS_umask, libc::SYS_fstat,
    libc::SYS_newfstatat, libc::SYS_statx, libc::SYS_statfs, libc::SYS_fstatfs, libc::SYS_utimensat,
    libc::SYS_getxattr, libc::SYS_lgetxattr, libc::SYS_fgetxattr, libc::SYS_setxattr, libc::SYS_lsetxattr,
    libc::SYS_fsetxattr, libc::SYS_listxattr, libc::SYS_llistxattr, libc::SYS_flistxattr, libc::SYS_removexattr,
    libc::SYS_lremovexattr, libc::SYS_fremovexattr, libc::SYS_inotify_init1, libc::SYS_inotify_add_watch,
    libc::SYS_inotify_rm_watch, libc::SYS_memfd_create,
    // old kernel-side asynchronous I/O, of which libuv and databases ask whether it exists
    libc::SYS_io_setup, libc::SYS_io_destroy, libc::SYS_io_submit, libc::SYS_io_cancel, libc::SYS_io_getevents,
    // waiting
    libc::SYS_ppoll, libc::SYS_pselect6, libc::SYS_epoll_create1, libc::SYS_epoll_ctl, libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2, libc::SYS_eventfd2, libc::SYS_signalfd4, libc::SYS_timerfd_create,
    libc::SYS_timerfd_settime, libc::SYS_timerfd_gettime,
    // memory
    libc::SYS_brk, libc::SYS_mmap, libc::SYS_munmap, libc::SYS_mremap, libc::SYS_mprotect, libc::SYS_madvise,
    libc::SYS_msync, libc::SYS_mincore, libc::SYS_mlock, libc::SYS_mlock2, libc::SYS_munlock, libc::SYS_mlockall,
    libc::SYS_munlockall, libc::SYS_membarrier, libc::SYS_pkey_alloc, libc::SYS_pkey_free, libc::SYS_pkey_mprotect,
    libc::SYS_get_mempolicy, libc::SYS_mbind, libc::SYS_set_mempolicy, libc::SYS_remap_file_pages,
    libc::SYS_shmget, libc::SYS_shmat, libc::SYS_shmctl, libc::SYS_shmdt, libc::SYS_semget, libc::SYS_semop,
    libc::SYS_semctl, libc::SYS_semtimedop, libc::SYS_msgget, libc::SYS_msgsnd, libc::SYS_msgrcv, libc::SYS_msgctl,
    libc::SYS_mq_open, libc::SYS_mq_unlink, libc::SYS_mq_timedsend, libc::SYS_mq_timedreceive, libc::SYS_mq_notify,
    libc::SYS_mq_getsetattr,
    // processes and threads; `clone` without namespaces, see the second filter
    libc::SYS_clone, libc::SYS_execve, libc::SYS_execveat, libc::SYS_exit, libc::SYS_exit_group, libc::SYS_wait4,
    libc::SYS_waitid, libc::SYS_getpid, libc::SYS_getppid, libc::SYS_gettid, libc::SYS_getpgid, libc::SYS_setpgid,
    libc::SYS_getsid, libc::SYS_setsid, libc::SYS_set_tid_address, libc::SYS_set_robust_list,
    libc::SYS_get_robust_list, libc::SYS_rseq, libc::SYS_futex, SYS_FUTEX_WAITV, libc::SYS_prctl,
    libc::SYS_personality, libc::SYS_getrlimit, libc::SYS_setrlimit, libc::SYS_prlimit64, libc::SYS_getrusage,
    libc::SYS_times, libc::SYS_getpriority, libc::SYS_setpriority, libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity, libc::SYS_sched_setaffinity, libc::SYS_sched_getparam, libc::SYS_sched_setparam,
    libc::SYS_sched_getscheduler, libc::SYS_sched_setscheduler, libc::SYS_sched_getattr, libc::SYS_sched_setattr,
    libc::SYS_sched_get_priority_max, libc::SYS_sched_get_priority_min, libc::SYS_sched_rr_get_interval,
    libc::SYS_ioprio_get, libc::SYS_ioprio_set, libc::SYS_getcpu, libc::SYS_pidfd_open, libc::SYS_pidfd_send_signal,
    libc::SYS_restart_syscall,
    // who; without a capability none of these leads anywhere else
    libc::SYS_getuid, libc::SYS_geteuid, libc::SYS_getgid, libc::SYS_getegid, libc::SYS_getresuid,
    libc::SYS_getresgid, libc::SYS_getgroups, libc::SYS_setuid, libc::SYS_setgid, libc::SYS_setreuid,
    libc::SYS_setregid, libc::SYS_setresuid, libc::SYS_setresgid, libc::SYS_setgroups, libc::SYS_setfsuid,
    libc::SYS_setfsgid, libc::SYS_capget, libc::SYS_capset, SYS_LANDLOCK_CREATE, SYS_LANDLOCK_ADD,
    SYS_LANDLOCK_RESTRICT,
    // signals
    libc::SYS_rt_sigaction, libc::SYS_rt_sigprocmask, libc::SYS_rt_sigreturn, libc::SYS_rt_sigsuspend,
    libc::SYS_rt_sigpending, libc::SYS_rt_sigtimedwait, libc::SYS_rt_sigqueueinfo, libc::SYS_rt_tgsigqueueinfo,
    libc::SYS_sigaltstack, libc::SYS_kill, libc::SYS_tkill, libc::SYS_tgkill,
    // time
    libc::SYS_clock_gettime, libc::SYS_clock_getres, libc::SYS_clock_nanosleep, libc::SYS_nanosleep,
    libc::SYS_gettimeofday, libc::SYS_getitimer, libc::SYS_setitimer, libc::SYS_timer_create,
    libc::SYS_timer_settime, libc::SYS_timer_gettime, libc::SYS_timer_getoverrun, libc::SYS_timer_delete,
    // sockets; kinds are looked at by the second filter
    libc::SYS_socket, libc::SYS_socketpair, libc::SYS_bind, libc::SYS_listen, libc::SYS_accept, libc::SYS_accept4,
    libc::SYS_connect, libc::SYS_getsockname, libc::SYS_getpeername, libc::SYS_sendto, libc::SYS_recvfrom,
    libc::SYS_sendmsg, libc::SYS_recvmsg, libc::SYS_sendmmsg, libc::SYS_recvmmsg, libc::SYS_shutdown,
    libc::SYS_setsockopt, libc::SYS_getsockopt,
    // the machine
    libc::SYS_uname, libc::SYS_sysinfo, libc::SYS_getrandom,
];

/// `SOCK_PACKET`: the old way to raw packets.
const SOCKET_PACKET: u64 = 10;
/// `TIOCSTI`: types into a terminal.
const TERMINAL_TYPE: u64 = 0x5412;
/// `TIOCLINUX`: does so on the console, among others.
const TERMINAL_CONSOLE: u64 = 0x541c;

// Numbers shared by all processors since Linux 5.1.
const SYS_LANDLOCK_CREATE: i64 = 444;
const SYS_LANDLOCK_ADD: i64 = 445;
const SYS_LANDLOCK_RESTRICT: i64 = 446;
const SYS_FUTEX_WAITV: i64 = 449;

/// The older forms that only x86-64 has.
#[cfg(target_arch = "x86_64")]
#[rustfmt::skip]
const ALLOWED_ON_THIS_PROCESSOR: &[i64] = &[
    libc::SYS_open, libc::SYS_creat, libc::SYS_stat, libc::SYS_lstat, libc::SYS_access, libc::SYS_pipe,
    libc::SYS_select, libc::SYS_poll, libc::SYS_dup2, libc::SYS_pause, libc::SYS_alarm, libc::SYS_fork,
    libc::SYS_vfork, libc::SYS_getdents, libc::SYS_rename, libc::SYS_renameat, libc::SYS_mkdir, libc::SYS_rmdir,
    libc::SYS_link, libc::SYS_unlink, libc::SYS_symlink, libc::SYS_readlink, libc::SYS_chmod, libc::SYS_chown,
    libc::SYS_lchown, libc::SYS_getpgrp, libc::SYS_utime, libc::SYS_utimes, libc::SYS_futimesat, libc::SYS_mknod,
    libc::SYS_epoll_create, libc::SYS_epoll_wait, libc::SYS_inotify_init, libc::SYS_signalfd, libc::SYS_eventfd,
    libc::SYS_arch_prctl, libc::SYS_time,
];
#[cfg(target_arch = "aarch64")]
const ALLOWED_ON_THIS_PROCESSOR: &[i64] = &[libc::SYS_renameat];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_compile_and_nothing_forbidden_is_allowed() {
        Filters::compile().unwrap();
        for number in DENIED {
            assert!(!ALLOWED.contains(number), "system call {number} is both allowed and denied");
            assert!(!ALLOWED_ON_THIS_PROCESSOR.contains(number), "system call {number} is both");
        }
        assert!(!ALLOWED.contains(&libc::SYS_clone3));
        assert!(UNTIL_GIVEN_UP.iter().all(|number| DENIED.contains(number)));
    }
}
