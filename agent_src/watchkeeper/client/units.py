"""`watchkeeper unit`: what systemd, launchd, Windows or Kubernetes needs to run the agent, as text to look at and keep.

The limits in these texts go with the agent's defaults: drain_timeout is 30 s, so nobody kills it before 45 s.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from xml.sax.saxutils import escape

from watchkeeper._version import __version__

STOP_LIMIT = 45
WATCHDOG = 30
NOTIFY_RELOAD_SINCE = 253
"""systemd's NEWS: Type=notify-reload."""


@dataclass(frozen=True)
class Wanted:
    """What was said on the command line; None: the default of the manager."""

    program: str | None = None
    config: str | None = None
    user: str | None = None
    image: str | None = None
    systemd: int | None = None

    @property
    def command(self) -> str:
        """The program by its full path."""
        if self.program:
            return self.program
        if getattr(sys, "frozen", False):
            return sys.executable
        return shutil.which("watchkeeper") or "/usr/bin/watchkeeper"


def text(manager: str, wanted: Wanted) -> str:
    """The text for one of `commands.UNITS`."""
    return _WRITERS[manager](wanted).rstrip("\n")


def systemd(wanted: Wanted) -> str:
    """Save it as /etc/systemd/system/watchkeeper.service."""
    version = wanted.systemd or _systemd_version()
    reload = (
        "Type=notify-reload"
        if version >= NOTIFY_RELOAD_SINCE
        else "Type=notify\nExecReload=/bin/kill -HUP $MAINPID"
    )
    user = f"User={wanted.user}\n" if wanted.user else ""
    config = wanted.config or "/etc/watchkeeper/watchkeeper.yaml"
    return f"""\
# /etc/systemd/system/watchkeeper.service, made by watchkeeper {__version__} for systemd {version}
[Unit]
Description=Watchkeeper keeps the services of this machine alive and checks them
Wants=network-online.target
After=network-online.target
# Try for ever: what keeps others alive is not given up because it was started often.
StartLimitIntervalSec=0

[Service]
{reload}
{user}# With "-" it only says what is wrong: the agent then starts with the last good configuration, if there is one.
ExecStartPre=-{_unit_word(wanted.command)} check-config {_unit_word(config)}
ExecStart={_unit_word(wanted.command)} run --config {_unit_word(config)}
Restart=always
RestartSec=1
# The agent says that it is alive while its loop turns and its workers get on.
WatchdogSec={WATCHDOG}
# It stops its services itself; systemd kills what is left after the limit.
KillMode=mixed
TimeoutStartSec=60
TimeoutStopSec={STOP_LIMIT}
# state: the last good configuration. runtime: the socket for `watchkeeper status` and orders.
StateDirectory=watchkeeper
RuntimeDirectory=watchkeeper
LimitNOFILE=65536
TasksMax=infinity
NoNewPrivileges=no

[Install]
WantedBy=multi-user.target
"""


def launchd(wanted: Wanted) -> str:
    """Save it as /Library/LaunchDaemons/watchkeeper.plist; `launchctl bootstrap system FILE` loads it."""
    config = wanted.config or "/usr/local/etc/watchkeeper/watchkeeper.yaml"
    words = [wanted.command, "run", "--config", config, "--state-dir", "/usr/local/var/lib/watchkeeper"]
    arguments = "\n".join(f"    <string>{escape(word)}</string>" for word in words)
    user = f"  <key>UserName</key>\n  <string>{escape(wanted.user)}</string>\n" if wanted.user else ""
    return f"""\
<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<!-- /Library/LaunchDaemons/watchkeeper.plist, made by watchkeeper {__version__} -->
<plist version="1.0">
<dict>
  <key>Label</key>
  <string>watchkeeper</string>
  <key>ProgramArguments</key>
  <array>
{arguments}
  </array>
{user}  <key>RunAtLoad</key>
  <true/>
  <key>KeepAlive</key>
  <true/>
  <key>ThrottleInterval</key>
  <integer>1</integer>
  <key>ExitTimeOut</key>
  <integer>{STOP_LIMIT}</integer>
  <key>AbandonProcessGroup</key>
  <false/>
  <key>SoftResourceLimits</key>
  <dict>
    <key>NumberOfFiles</key>
    <integer>65536</integer>
  </dict>
  <key>StandardErrorPath</key>
  <string>/usr/local/var/log/watchkeeper.log</string>
</dict>
</plist>
"""


def windows(wanted: Wanted) -> str:
    """The same as `watchkeeper service install`, command by command."""
    program = wanted.program or (sys.executable if getattr(sys, "frozen", False) else "watchkeeper.exe")
    config = wanted.config or r"C:\ProgramData\watchkeeper\watchkeeper.yaml"
    line = f'\\"{program}\\" service-run --name watchkeeper --config \\"{config}\\"'
    user = f' obj= "{wanted.user}"' if wanted.user else ""
    return f"""\
rem Made by watchkeeper {__version__}. The first line alone does all of it; the others are what it does.
"{program}" service install --config "{config}"

sc.exe create watchkeeper type= own start= auto binPath= "{line}" DisplayName= "Watchkeeper"{user}
sc.exe description watchkeeper "Keeps the services of this machine alive and checks them."
sc.exe failure watchkeeper reset= 600 actions= restart/1000/restart/5000/restart/60000
sc.exe failureflag watchkeeper 1
sc.exe start watchkeeper
"""


def daemonset(wanted: Wanted) -> str:
    """`kubectl apply -f` it."""
    image = wanted.image or f"watchkeeper:{__version__}"
    config = wanted.config or "/etc/watchkeeper/watchkeeper.yaml"
    folder, name = os.path.dirname(config) or "/", os.path.basename(config)  # noqa: PTH119, PTH120 - a path in a container
    return f"""\
# Made by watchkeeper {__version__}. One agent on each node. To see the node's own processes and network, add hostPID and hostNetwork.
apiVersion: v1
kind: Namespace
metadata:
  name: watchkeeper
---
apiVersion: v1
kind: ServiceAccount
metadata:
  name: watchkeeper
  namespace: watchkeeper
automountServiceAccountToken: false
---
apiVersion: v1
kind: ConfigMap
metadata:
  name: watchkeeper
  namespace: watchkeeper
data:
  {name}: |
    agent:
      listen: 0.0.0.0:9470
      shutdown_delay: 5s
    checks: {{}}
---
apiVersion: apps/v1
kind: DaemonSet
metadata:
  name: watchkeeper
  namespace: watchkeeper
  labels:
    app.kubernetes.io/name: watchkeeper
spec:
  selector:
    matchLabels:
      app.kubernetes.io/name: watchkeeper
  updateStrategy:
    type: RollingUpdate
    rollingUpdate:
      maxUnavailable: 1
  template:
    metadata:
      labels:
        app.kubernetes.io/name: watchkeeper
      annotations:
        prometheus.io/scrape: "true"
        prometheus.io/port: "9470"
    spec:
      serviceAccountName: watchkeeper
      terminationGracePeriodSeconds: {STOP_LIMIT}
      tolerations:
        - operator: Exists
      containers:
        - name: watchkeeper
          image: {image}
          args: ["run", "--config", "{config}", "--state-dir", "/var/lib/watchkeeper"]
          ports:
            - name: metrics
              containerPort: 9470
          startupProbe:
            httpGet: {{path: /livez, port: metrics}}
            periodSeconds: 1
            failureThreshold: 30
          livenessProbe:
            httpGet: {{path: /livez, port: metrics}}
            periodSeconds: 10
            timeoutSeconds: 5
          readinessProbe:
            httpGet: {{path: /readyz, port: metrics}}
            periodSeconds: 5
          resources:
            requests: {{cpu: 25m, memory: 48Mi}}
            limits: {{memory: 128Mi}}
          securityContext:
            allowPrivilegeEscalation: false
            readOnlyRootFilesystem: true
            capabilities: {{drop: [ALL]}}
          volumeMounts:
            - {{name: config, mountPath: {folder}, readOnly: true}}
            - {{name: state, mountPath: /var/lib/watchkeeper}}
      volumes:
        - name: config
          configMap: {{name: watchkeeper}}
        - name: state
          hostPath: {{path: /var/lib/watchkeeper, type: DirectoryOrCreate}}
"""


_WRITERS: dict[str, Callable[[Wanted], str]] = {
    "systemd": systemd,
    "launchd": launchd,
    "windows": windows,
    "daemonset": daemonset,
}


def _unit_word(word: str) -> str:
    """A word of a command line in a unit: % and $ mean something there, and blanks end it (systemd.service(5))."""
    plain = word.replace("\\", "\\\\").replace("%", "%%").replace("$", "$$").replace('"', '\\"')
    return f'"{plain}"' if any(letter in word for letter in " \t\"'\\;") else plain


def _systemd_version() -> int:
    """The one that runs here; where none does, one that has notify-reload."""
    systemctl = shutil.which("systemctl")
    if systemctl is None:
        return NOTIFY_RELOAD_SINCE
    answer = subprocess.run([systemctl, "--version"], capture_output=True, text=True, check=False, timeout=10)
    words = answer.stdout.split()
    return int(words[1]) if len(words) > 1 and words[1].isdigit() else NOTIFY_RELOAD_SINCE
