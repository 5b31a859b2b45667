# Passes commands on to Ceph: one line of JSON in, one out. Ends when its input does.
#
# in:  {"id": 1, "target": "mon" | "mgr", "command": {"prefix": …}, "input": "…"}
# out: {"id": 1, "code": 0, "out": "…", "said": "…"}; the first line, of id 0, says whether the
#      cluster could be reached.
import json
import sys

import rados


def say(**answer):
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


conf, deadline = sys.argv[1], sys.argv[2]
try:
    cluster = rados.Rados(
        conffile=conf,
        name="client.admin",
        conf={
            "rados_mon_op_timeout": deadline,
            "client_mount_timeout": deadline,
            "log_to_stderr": "false",
            "log_file": "/dev/null",
        },
    )
    cluster.connect(timeout=int(deadline))
except Exception as e:
    say(id=0, code=-(getattr(e, "errno", None) or 1), out="", said=str(e))
    sys.exit(1)
say(id=0, code=0, out="", said="")
for line in sys.stdin:
    request = json.loads(line)
    ask = cluster.mgr_command if request["target"] == "mgr" else cluster.mon_command
    try:
        code, out, said = ask(json.dumps(request["command"]), request["input"].encode())
        if isinstance(out, bytes):
            out = out.decode(errors="replace")
    except Exception as e:
        code, out, said = -(getattr(e, "errno", None) or 1), "", str(e)
    say(id=request["id"], code=code, out=out, said=said)
