"""The units of daemon and runs for one installation, with their user and directories. Pure.

Hardened to what each needs. A run's keeps: memory that is written and executed (CUDA, compilers of
kernels), netlink and the GPUs' devices, locked memory, and the network, since a reward may ask one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

DAEMON_UNIT = "maxrl-ops.service"
RUN_UNIT = "maxrl-ops-run@{}.service"
SECRETS = "/etc/maxrl-ops"
# What ProtectHome= and PrivateTmp= take out of a service's sight.
_HIDDEN = tuple(Path(path) for path in ("/home", "/root", "/run/user", "/tmp", "/var/tmp"))  # noqa: S108


@dataclass(frozen=True, slots=True)
class Installation:
    """What differs between hosts.

    Attributes:
        python: The interpreter that has this package.
        needed: Every directory that it reads: itself, its libraries, the package, a toolchain.
        path: PATH of what runs.
        home: $MAXRL_OPS_HOME.
        user: Whom daemon and runs run as; made where there is none. Its group has the same name.
    """

    python: Path
    needed: Sequence[Path]
    path: Sequence[Path]
    home: Path
    user: str


DEFAULT = Installation(
    python=Path("/opt/maxrl-ops/bin/python"),
    needed=(Path("/opt/maxrl-ops"),),
    path=tuple(Path(path) for path in ("/opt/maxrl-ops/bin", "/usr/local/bin", "/usr/bin", "/bin")),
    home=Path("/var/lib/maxrl-ops"),
    user="maxrl",
)


def home_line(home: Path) -> str:
    """The line by which a unit of ours says which home it serves."""
    return f"Environment={_word(f'MAXRL_OPS_HOME={home}')}"


def files(here: Installation) -> Mapping[str, str]:
    """Every file by its path below /etc."""
    return {
        f"systemd/system/{DAEMON_UNIT}": _daemon(here),
        f"systemd/system/{RUN_UNIT.format('')}": _run(here),
        "sysusers.d/maxrl-ops.conf": _sysusers(here),
        "tmpfiles.d/maxrl-ops.conf": _tmpfiles(here),
    }


def _daemon(here: Installation) -> str:
    return f"""\
[Unit]
Description=maxrl-ops: looks after reinforcement-learning runs
Documentation=man:systemd.service(5)
After=network.target nvidia-persistenced.service
RequiresMountsFor={_word(here.home)}
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
ExecStart={_word(here.python)} -P -m maxrl_ops.daemon
ExecReload=/bin/kill -HUP $MAINPID
{_common(here)}
EnvironmentFile=-{SECRETS}/daemon.env
Restart=on-failure
RestartSec=1s
# A mistake in a setting stays one, and so does another daemon: said in one line, for a person.
RestartPreventExitStatus=2 4 78
# A large history of an earlier version is brought up to date before anything else.
TimeoutStartSec=15min
TimeoutStopSec=30s
# Pinged by the loop that tails the logs: one that stands still is ended, and says where it stood.
WatchdogSec=30s
TimeoutAbortSec=5s
OOMScoreAdjust=-200

{_hardened(here)}
PrivateTmp=yes
# Not PrivateUsers=: whether a run's processes live could not be seen from another user namespace.
MemoryDenyWriteExecute=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
SystemCallFilter=~@privileged @resources
# GPUs, for their memory and temperature.
DeviceAllow=char-nvidia* rw
# To serve metrics elsewhere: --tls-cert in ExecStart=, and IPAddressAllow= the scraper's.
IPAddressDeny=any
IPAddressAllow=localhost

[Install]
WantedBy=multi-user.target
"""


def _run(here: Installation) -> str:
    return f"""\
# The instance is the run's name as it stands, not escaped: maxrl-ops-run@rust-1.service
[Unit]
Description=maxrl-ops run %i
Documentation=man:systemd.service(5)
After=network-online.target nvidia-persistenced.service
Wants=network-online.target
RequiresMountsFor={_word(here.home)}
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
ExecStart={_word(here.python)} -P -m maxrl_ops.supervisor {_word(here.home / "runs", "/%i")}
{_common(here)}
# Tokens of this host's runs, and of this one: systemd reads them as root, so 0600 is enough.
EnvironmentFile=-{SECRETS}/run.env
EnvironmentFile=-{SECRETS}/%i.env
Restart=on-failure
RestartSec=1s
# 1: the run has failed for good, which the supervisor has judged itself.
RestartPreventExitStatus=1 2 3 78
# SIGUSR2 suspends: the supervisor lets the trainer save and end, and goes on with it at the next
# start; a reboot is no end of a run. maxrl-ops stop is one.
KillSignal=SIGUSR2
# The trainer of a supervisor that died lives on, and is adopted by the next one.
KillMode=process
TimeoutStartSec=60s
# More than a stop's grace (MAXRL_OPS_STOP_GRACE_SECONDS, 15 min): a checkpoint may take its time.
TimeoutStopSec=16min
WatchdogSec=60s
TimeoutAbortSec=5s
# A trainer that the kernel killed for memory is the supervisor's to judge.
OOMPolicy=continue
LimitMEMLOCK=infinity

{_hardened(here)}
# Not PrivateTmp=: that is removed when the supervisor dies, under a trainer that lives on.
TemporaryFileSystem=/tmp:mode=1777 /var/tmp:mode=1777
MemoryDenyWriteExecute=no
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
SystemCallFilter=~@privileged
# The sandbox of what a model writes is Landlock: bubblewrap would need namespaces, and a /proc that
# nothing of the above covers.
SystemCallFilter=landlock_create_ruleset landlock_add_rule landlock_restrict_self seccomp
# GPUs: NVIDIA's by their drivers' names in /proc/devices, AMD's by node and by DRM.
DeviceAllow=char-nvidia* rw
DeviceAllow=/dev/kfd rw
DeviceAllow=char-drm rw

[Install]
WantedBy=multi-user.target
"""


def _common(here: Installation) -> str:
    path = ":".join(str(directory) for directory in here.path)
    return f"""\
{home_line(here.home)}
Environment={_word(f"PATH={path}")}
Environment=XDG_CACHE_HOME=%C/maxrl-ops
User={here.user}
Group={here.user}
UMask=0027
CacheDirectory=maxrl-ops
CacheDirectoryMode=0750
LimitNOFILE=65536
LimitCORE=0"""


def _hardened(here: Installation) -> str:
    """What both kinds of unit are denied."""
    hidden = [path for path in here.needed if _is_hidden(path)]
    # An empty directory in whose place only what is named appears.
    home = "tmpfs" if hidden or _is_hidden(here.home) else "yes"
    lines = [f"BindReadOnlyPaths={_word(path)}" for path in hidden]
    lines.append(f"{'BindPaths' if _is_hidden(here.home) else 'ReadWritePaths'}={_word(here.home)}")
    shown = "\n".join(lines)
    return f"""\
NoNewPrivileges=yes
CapabilityBoundingSet=
AmbientCapabilities=
ProtectSystem=strict
ProtectHome={home}
{shown}
PrivateIPC=yes
PrivateMounts=yes
PrivateDevices=no
DevicePolicy=closed
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
# NVIDIA's library reads /proc/driver/nvidia, and everybody /proc/meminfo.
ProcSubset=all
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
KeyringMode=private
# Not RemoveIPC=: it would take the shared memory of every other run of the same user.
SystemCallArchitectures=native
SystemCallErrorNumber=EPERM
SystemCallFilter=@system-service"""


def _is_hidden(path: Path) -> bool:
    return any(path.is_relative_to(hidden) for hidden in _HIDDEN)


def _sysusers(here: Installation) -> str:
    return f"""\
u {here.user} - "maxrl-ops" {_field(here.home)} /usr/sbin/nologin
# Who owns the GPUs' devices, where not everybody may use them.
m {here.user} video
m {here.user} render
"""


def _tmpfiles(here: Installation) -> str:
    # Set-group-ID: what root writes here (a control, a run) the service can read.
    return f"""\
d {_field(here.home)} 2750 {here.user} {here.user} -
d {_field(here.home / "runs")} 2750 {here.user} {here.user} -
# Secrets: systemd reads them, the service does not.
d {SECRETS} 0750 root {here.user} -
"""


def _word(text: object, specifier: str = "") -> str:
    """A word of a unit file, quoted where it must be: `text` as it stands, then a specifier."""
    escaped = str(text).replace("\\", r"\\").replace('"', r"\"").replace("%", "%%") + specifier
    return f'"{escaped}"' if any(c in escaped for c in " '\t;") else escaped


def _field(path: Path) -> str:
    text = str(path).replace("%", "%%")
    return f'"{text}"' if " " in text else text
