"""A model that attacks: each function tries one thing and raises if it is refused. It runs in a worker only.

It is one file because a scorer gives a worker its model as one file. The feature `visits` is the index of the row's
attack in ATTACKS. `world.json` next to the model lists the targets; see tests.support.hostile_world.
"""
# mypy: ignore-errors

import ctypes
import fcntl
import glob
import json
import mmap
import os
import resource
import signal
import socket
import struct
import sys
import threading
import time

from gnomon_consumer.scorer.worker import kernel

HERE = os.path.dirname(os.path.abspath(__file__))
WORLD = json.load(open(os.path.join(HERE, "world.json"))) if os.path.exists(os.path.join(HERE, "world.json")) else {}
VICTIM = os.path.join(HERE, "victim")


def write_new_file():
    open(os.path.join(HERE, "new"), "wb").write(b"x")


def overwrite_file():
    open(VICTIM, "r+b", 0).write(b"x")


def append_to_file():
    open(VICTIM, "ab", 0).write(b"x")


def truncate_by_name():
    os.truncate(VICTIM, 0)


def truncate_while_reading():
    os.open(VICTIM, os.O_RDONLY | os.O_TRUNC)


def write_by_mapping():
    with open(VICTIM, "r+b") as found:
        mmap.mmap(found.fileno(), 0)[:1] = b"x"


def map_read_only_file_for_writing():
    descriptor = os.open(VICTIM, os.O_RDONLY)
    mmap.mmap(descriptor, 0, mmap.MAP_SHARED, mmap.PROT_WRITE)[:1] = b"x"


def write_through_proc():
    descriptor = os.open(VICTIM, os.O_RDONLY)
    os.write(os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY), b"x")


def reserve_space():
    os.posix_fallocate(os.open(VICTIM, os.O_RDWR), 0, 1 << 20)


def unlink_file():
    os.unlink(VICTIM)


def rename_file():
    os.rename(VICTIM, VICTIM + ".moved")


def rename_over_file():
    os.rename(__file__, VICTIM)


def hard_link():
    os.link(VICTIM, os.path.join(HERE, "link"))


def symbolic_link():
    os.symlink(VICTIM, os.path.join(HERE, "symlink"))


def make_folder():
    os.mkdir(os.path.join(HERE, "folder"))


def remove_folder():
    os.rmdir(os.path.join(HERE, "empty"))


def make_fifo():
    os.mkfifo(os.path.join(HERE, "fifo"))


def make_socket_file():
    socket.socket(socket.AF_UNIX).bind(os.path.join(HERE, "socket"))


def write_to_fifo():
    os.write(os.open(os.path.join(HERE, "pipe"), os.O_WRONLY | os.O_NONBLOCK), b"x")


def change_mode():
    os.chmod(VICTIM, 0o777)


def change_mode_of_descriptor():
    os.fchmod(os.open(VICTIM, os.O_RDONLY), 0o777)


def change_owner():
    os.chown(VICTIM, os.geteuid(), os.getegid())


def change_times():
    os.utime(VICTIM, (0, 0))


def set_attribute():
    os.setxattr(VICTIM, "user.planted", b"x")


def change_flags():
    fcntl.ioctl(os.open(VICTIM, os.O_RDONLY), 0x40086602, struct.pack("l", 0x40))  # FS_IOC_SETFLAGS, no dump


def lock_file():
    fcntl.flock(os.open(VICTIM, os.O_RDONLY), fcntl.LOCK_EX)


def lock_range():
    fcntl.lockf(os.open(VICTIM, os.O_RDONLY), fcntl.LOCK_SH)


def lease_file():
    fcntl.fcntl(os.open(VICTIM, os.O_RDONLY), fcntl.F_SETLEASE, fcntl.F_RDLCK)


def plant_module_in_site_packages():
    open(os.path.join(WORLD["site"], "gnomon_planted.pth"), "w").write("import os")


def plant_user_customisation():
    folder = os.path.join(WORLD["home"], ".local")
    os.makedirs(folder)
    open(os.path.join(folder, "usercustomize.py"), "w").write("x = 1")


def overwrite_our_modules():
    open(kernel.__file__, "ab").write(b"#")


def write_to_tmp():
    open("/tmp/gnomon-hostile", "w").write("x")


def write_to_shared_memory():
    open("/dev/shm/gnomon-hostile", "w").write("x")


def change_kernel_setting():
    open("/proc/sys/kernel/core_pattern", "w").write("|/bin/true")


def spare_itself():
    open("/proc/self/oom_score_adj", "w").write("-500")


def io_uring():
    kernel.call("io_uring_setup", 8, ctypes.create_string_buffer(256))


def open_by_handle():
    kernel.call("open_by_handle_at", -100, ctypes.create_string_buffer(16), 0)


def read_configuration():
    return open(WORLD["secret"]).read() or "an empty file"


def read_configuration_by_another_way():
    for path in (f"/proc/self/root{WORLD['secret']}", f"/proc/self/cwd/{os.path.basename(WORLD['secret'])}"):
        try:
            return open(path).read() or "an empty file"
        except OSError:
            continue
    link = os.open(os.path.dirname(WORLD["secret"]), os.O_PATH)
    return os.read(os.open(os.path.basename(WORLD["secret"]), os.O_RDONLY, dir_fd=link), 1000).decode()


def read_environments():
    found = ""
    for path in glob.glob("/proc/[0-9]*/environ"):
        try:
            found += open(path, "rb").read().decode("utf-8", "replace")
        except OSError:
            continue
    return found


def read_memory():
    return os.read(os.open(f"/proc/{WORLD['victim']}/mem", os.O_RDONLY), 10).decode()


def read_memory_by_call():
    here, there = ctypes.create_string_buffer(16), struct.pack("PN", 0x400000, 8)
    kernel.call("process_vm_readv", WORLD["victim"], struct.pack("PN", ctypes.addressof(here), 8), 1, there, 1, 0)


def take_descriptor():
    kernel.call("pidfd_getfd", os.pidfd_open(WORLD["victim"]), 0, 0)


def read_descriptors():
    return os.readlink(f"/proc/{WORLD['scorer']}/fd/0")


def trace():
    kernel.call("ptrace", 16, WORLD["victim"], 0, 0)  # PTRACE_ATTACH


def connect_tcp():
    socket.create_connection(("127.0.0.1", WORLD["tcp"]), 2)


def connect_tcp_by_call():
    descriptor = kernel.checked(kernel.libc.socket(socket.AF_INET, socket.SOCK_STREAM, 0))
    address = struct.pack("=H", 2) + struct.pack("!H", WORLD["tcp"]) + bytes((127, 0, 0, 1)) + bytes(8)
    kernel.checked(kernel.libc.connect(descriptor, address, 16))


def send_udp():
    descriptor = kernel.checked(kernel.libc.socket(socket.AF_INET, socket.SOCK_DGRAM, 0))
    address = struct.pack("=H", 2) + struct.pack("!H", WORLD["udp"]) + bytes((127, 0, 0, 1)) + bytes(8)
    kernel.checked(kernel.libc.sendto(descriptor, b"x", 1, 0, address, 16))


def _unix(path):
    return struct.pack("=H", 1) + path.encode() + b"\0"


def connect_to_path_socket():
    descriptor = kernel.checked(kernel.libc.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0))
    address = _unix(WORLD["unix"])
    kernel.checked(kernel.libc.connect(descriptor, address, len(address)))


def send_to_path_socket():
    address, pair = _unix(WORLD["datagram"]), (ctypes.c_int * 2)()
    kernel.checked(kernel.libc.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM, 0, pair))
    kernel.checked(kernel.libc.sendto(pair[0], b"x", 1, 0, address, len(address)))


def connect_to_abstract_socket():
    descriptor = kernel.checked(kernel.libc.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0))
    address = struct.pack("=H", 1) + b"\0" + WORLD["abstract"].encode()
    kernel.checked(kernel.libc.connect(descriptor, address, len(address)))


def reconnect_stream_pair():
    address, pair = _unix(WORLD["unix"]), (ctypes.c_int * 2)()
    kernel.checked(kernel.libc.socketpair(socket.AF_UNIX, socket.SOCK_STREAM, 0, pair))
    os.close(pair[1])
    kernel.checked(kernel.libc.connect(pair[0], address, len(address)))


def other_sockets():
    for family, kind in ((16, 3), (17, 3), (40, 1), (38, 5), (31, 1)):  # netlink, packet, vsock, crypto, Bluetooth
        if kernel.libc.socket(family, kind, 0) >= 0:
            return
    raise PermissionError("none was given")


def kill_parent():
    os.kill(os.getppid() or WORLD["keeper_session"], signal.SIGKILL)


def kill_scorer():
    os.kill(WORLD["scorer"], signal.SIGKILL)


def kill_victim():
    os.kill(WORLD["victim"], signal.SIGKILL)


def signal_group_of_scorer():
    os.killpg(os.getpgid(WORLD["scorer"]), signal.SIGUSR1)


def signal_by_descriptor():
    kernel.call("pidfd_send_signal", os.pidfd_open(WORLD["victim"]), signal.SIGKILL, None, 0)


def signal_by_owner():
    pair = socket.socketpair()
    fcntl.fcntl(pair[0], 8, WORLD["victim"])  # F_SETOWN
    fcntl.fcntl(pair[0], fcntl.F_SETFL, os.O_ASYNC)
    pair[1].send(b"x")


def kill_everything():
    os.kill(-1, signal.SIGKILL)


def stop_keeper():
    os.kill(os.getppid() or 1, signal.SIGSTOP)


def fork_without_end():
    for _ in range(500):
        if os.fork() == 0:
            time.sleep(600)


def fork_exponentially():
    while True:
        os.fork()


def allocate():
    bytearray(4 << 30)


def map_memory():
    mmap.mmap(-1, 8 << 30)[:: 1 << 20] = b"x" * (8 << 10)


def memory_of_children():
    for _ in range(6):
        if os.fork() == 0:
            held = bytearray(512 << 20)
            held[:: mmap.PAGESIZE] = b"x" * len(held[:: mmap.PAGESIZE])
            time.sleep(600)
    time.sleep(30)


def threads_without_end():
    threading.stack_size(32768)
    until = threading.Event()
    try:
        for _ in range(5000):
            threading.Thread(target=until.wait, daemon=True).start()
    finally:
        until.set()


def shared_memory_segments():
    kernel.call("shmget", 0, 1 << 30, 0o1600)


def memory_files():
    for _ in range(8):
        os.ftruncate(os.memfd_create("held"), 1 << 30)


def large_pipes():
    for _ in range(300):
        fcntl.fcntl(os.pipe()[0], 1031, 1 << 20)


def descriptors_without_end():
    held = []
    try:
        while True:
            held.append(os.dup(2))
    finally:
        for one in held:
            os.close(one)


def raise_limits():
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def limit_the_victim():
    resource.prlimit(WORLD["victim"], resource.RLIMIT_CPU, (1, 1))


def slow_the_user_down():
    os.setpriority(os.PRIO_USER, 0, 19)


def slow_the_victim_down():
    os.setpriority(os.PRIO_PROCESS, WORLD["victim"], 19)


def pin_the_victim():
    os.sched_setaffinity(WORLD["victim"], {0})


def become_root():
    os.setuid(0)


def take_capabilities():
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    every = 0xFFFFFFFF
    kernel.checked(kernel.libc.capset(header, (ctypes.c_uint32 * 6)(every, every, 0, 0x1FF, 0x1FF, 0)))


def new_user_namespace():
    kernel.call("unshare", kernel.CLONE_NEWUSER)


def clone_into_namespace():
    kernel.call("clone", kernel.CLONE_NEWUSER | signal.SIGCHLD, 0, 0, 0, 0)


def enter_namespace():
    kernel.call("setns", os.open("/proc/self/ns/net", os.O_RDONLY), 0)


def mount():
    kernel.call("mount", b"tmpfs", b"/mnt", b"tmpfs", 0, None)


def remount_writable():
    kernel.call("mount_setattr", -100, b"/", 0x8000, bytes(8) + (1).to_bytes(8, sys.byteorder) + bytes(16), 32)


def change_root():
    os.chroot(HERE)


def keys():
    kernel.call("add_key", b"user", b"planted", b"x", 1, -4)


def load_bpf():
    kernel.call("bpf", 0, ctypes.create_string_buffer(128), 128)


def measure_the_machine():
    kernel.call("perf_event_open", ctypes.create_string_buffer(128), 0, -1, -1, 0)


def user_faults():
    kernel.call("userfaultfd", 0)


def rename_the_host():
    socket.sethostname("planted")


def set_the_clock():
    time.clock_settime(time.CLOCK_REALTIME, 0)


def load_module():
    kernel.call("finit_module", 0, b"", 0)


def read_kernel_log():
    kernel.call("syslog", 3, ctypes.create_string_buffer(100), 100)


def restart_the_machine():
    kernel.call("reboot", 0xFEE1DEAD, 672274793, 0, None)  # Ctrl-Alt-Del off: harmless where it is allowed


def other_architecture():
    """Use the system call numbers of 32 bit: 5 is open there."""
    code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    if kernel.MACHINE != "x86_64":
        raise OSError("not on this machine")
    code.write(bytes.fromhex("b8140000 00cd80c3".replace(" ", "")))  # mov eax, 20 (getpid); int 0x80; ret
    address = ctypes.addressof(ctypes.c_char.from_buffer(code))
    if ctypes.CFUNCTYPE(ctypes.c_int)(address)() < 0:
        raise OSError("refused")


def detach():
    for _ in range(10):
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                time.sleep(600)
            os._exit(0)


def hang():
    while True:
        pass


def sleep():
    time.sleep(600)


def ignore_the_end():
    for number in range(1, 32):
        if number not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(number, signal.SIG_IGN)
    time.sleep(600)


def crash():
    ctypes.string_at(0)


def leave():
    os._exit(0)


def print_without_end():
    for _ in range(20_000):
        os.write(1, b"x" * 1000 + b"\n")
        os.write(2, b"y" * 1000)


ATTACKS = [
    one for name, one in list(globals().items())
    if callable(one) and getattr(one, "__module__", "") == __name__ and not name.startswith("_")
]  # fmt: skip


def make():
    def predict(columns):
        said = []
        for visits in columns["visits"]:
            try:
                answer = ATTACKS[int(visits)]() if visits >= 0 else None
                said.append("nothing refused" if answer is None else f"got {answer}")
            except MemoryError:
                said.append("refused: no memory")
            except BaseException as error:
                said.append(f"refused: {getattr(error, 'strerror', None) or error}"[:200])
        return {"label": said}

    return predict
