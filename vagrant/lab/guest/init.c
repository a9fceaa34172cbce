/*
 * Process 1 of the lab's guest: makes the machine, runs one command, reports its exit status, powers off.
 *
 * In C and static because every process that is started in the guest costs about 0.1 s: as a shell
 * script this took longer than the boot. Built by `lab kernel` with the compiler that built the kernel.
 *
 * The request is in the host directory that the kernel argument lab= names; lib/boot.sh writes it:
 *   conf    lines KEY VALUE (keys below)        argv, env   strings that end in NUL
 * and the answer goes to the file `status` there: `exit N`, `signal N` or `lab WHAT FAILED`.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#define CONTROL "/run/lab/control"
#define PATHVAR "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

static char *request;              /* the host directory, as the kernel argument gave it */
static const char *control;        /* the same directory, writable, where it is mounted now */
static char conf_userland[4096], conf_out[4096], conf_cwd[4096] = "/", conf_pool[64] = "none";
static unsigned conf_owner;        /* who the unpacked userland belongs to on the host, if not root */
static int conf_tty, conf_rows, conf_cols;

static void power_off(void)
{
    sync();
    reboot(RB_POWER_OFF);
    for (;;)
        pause();
}

/*
 * Rewrites the status file. It stays open from the first answer on: hostfs keeps a host descriptor for
 * each inode that was ever opened, and a command that walks the whole tree can use up the host's limit.
 */
static void answer(const char *format, ...)
{
    static int fd = -1;
    char text[4400], path[4200];
    va_list ap;
    va_start(ap, format);
    int length = vsnprintf(text, sizeof text - 1, format, ap);
    va_end(ap);
    if (length > (int)sizeof text - 2)
        length = sizeof text - 2;
    text[length++] = '\n';
    if (control && fd < 0) {
        snprintf(path, sizeof path, "%s/status", control);
        fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    }
    if (fd >= 0 && (ftruncate(fd, 0) != 0 || pwrite(fd, text, length, 0) != length || fsync(fd) != 0))
        fprintf(stderr, "lab: cannot write the status: %s\n", strerror(errno));
    fprintf(stderr, "%.*s", length, text); /* the kernel's console, that is the log */
}

static void fail(const char *what, const char *object)
{
    answer("lab %s %s: %s", what, object, strerror(errno));
    power_off();
}

static void mkdirs(const char *path)
{
    char part[4096];
    snprintf(part, sizeof part, "%s", path);
    for (char *slash = strchr(part + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = 0;
        mkdir(part, 0755);
        *slash = '/';
    }
    mkdir(part, 0755);
}

static void mnt(const char *type, const char *source, const char *target, unsigned long flags, const char *data)
{
    mkdirs(target);
    if (mount(source, target, type, flags, data) != 0)
        fail("cannot mount", target);
}

static void put(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (fd < 0 || write(fd, text, strlen(text)) < 0)
        fprintf(stderr, "lab: cannot write %s: %s\n", path, strerror(errno));
    if (fd >= 0)
        close(fd);
}

static char *slurp(const char *name, size_t *length)
{
    char path[4200];
    snprintf(path, sizeof path, "%s/%s", request, name);
    FILE *file = fopen(path, "r");
    if (!file)
        fail("cannot read", path);
    char *text = NULL;
    size_t have = 0, got;
    do {
        text = realloc(text, have + 65536 + 1);
        got = text ? fread(text + have, 1, 65536, file) : 0;
        have += got;
    } while (got > 0);
    fclose(file);
    if (!text)
        fail("no memory for", path);
    text[have] = 0;
    *length = have;
    return text;
}

/* Strings that end in NUL, as a vector that ends in NULL. */
static char **vector(const char *name, const char *extra)
{
    size_t length, count = 2;
    char *text = slurp(name, &length);
    for (size_t i = 0; i < length; i++)
        count += text[i] == 0;
    char **list = calloc(count, sizeof *list);
    size_t n = 0;
    for (char *at = text; at < text + length; at += strlen(at) + 1)
        list[n++] = at;
    if (extra)
        list[n] = (char *)extra;
    return list;
}

static void read_conf(void)
{
    size_t length;
    char *text = slurp("conf", &length), *save;
    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        char *value = strchr(line, ' ');
        if (!value)
            continue;
        *value++ = 0;
        if (!strcmp(line, "userland"))
            snprintf(conf_userland, sizeof conf_userland, "%s", value);
        else if (!strcmp(line, "out"))
            snprintf(conf_out, sizeof conf_out, "%s", value);
        else if (!strcmp(line, "cwd"))
            snprintf(conf_cwd, sizeof conf_cwd, "%s", value);
        else if (!strcmp(line, "pool"))
            snprintf(conf_pool, sizeof conf_pool, "%s", value);
        else if (!strcmp(line, "owner"))
            conf_owner = strtoul(value, NULL, 10);
        else if (!strcmp(line, "tty"))
            conf_tty = sscanf(value, "%d %d", &conf_rows, &conf_cols) == 2;
    }
}

/* A user who is not root has unpacked the userland as his own; in the guest it belongs to root. */
static int own(const char *path, const struct stat *st, int type, struct FTW *where)
{
    char here[4096];
    (void)type, (void)where;
    snprintf(here, sizeof here, "/tmp/root%s", path + strlen("/tmp/userland"));
    return st->st_uid == conf_owner ? lchown(here, 0, 0) : 0;
}

/*
 * The guest's root: the host's files below, the unpacked userland over them, and a tmpfs on top that
 * takes every write. The host's own tree is only ever read.
 */
static void make_root(void)
{
    mnt("tmpfs", "lab", "/tmp", 0, "mode=755,size=95%");
    mnt("hostfs", "none", "/tmp/control", 0, request);
    control = "/tmp/control";
    mkdirs("/tmp/upper");
    mkdirs("/tmp/work");
    mkdirs("/tmp/root");
    const char *lower = "/";
    if (*conf_userland) {
        /* A mount of its own: overlayfs refuses layers that lie inside each other. */
        mnt("hostfs", "none", "/tmp/userland", MS_RDONLY, conf_userland);
        lower = "/tmp/userland:/";
    }
    char data[160];
    /* metacopy: a change of owner must not copy the file. */
    snprintf(data, sizeof data, "lowerdir=%s,upperdir=/tmp/upper,workdir=/tmp/work,redirect_dir=on,metacopy=on", lower);
    mnt("overlay", "lab", "/tmp/root", 0, data);
    if (conf_owner && nftw("/tmp/userland", own, 16, FTW_PHYS) != 0)
        fail("cannot change the owner in", "/tmp/userland");

    mkdirs("/tmp/root/dev");
    if (mount("/dev", "/tmp/root/dev", NULL, MS_MOVE, NULL) != 0)
        mnt("devtmpfs", "dev", "/tmp/root/dev", 0, NULL);
    mnt("tmpfs", "run", "/tmp/root/run", MS_NOSUID | MS_NODEV, "mode=755,size=50%");
    mnt("tmpfs", "lab", "/tmp/root/run/lab", 0, "mode=755,size=95%");
    mnt("hostfs", "none", "/tmp/root" CONTROL, 0, request);
    if (*conf_out)
        mnt("hostfs", "none", "/tmp/root/mnt/out", 0, conf_out);

    if (chdir("/tmp/root") != 0 || syscall(SYS_pivot_root, ".", ".") != 0)
        fail("cannot pivot to", "/tmp/root");
    if (umount2(".", MNT_DETACH) != 0 || chdir("/") != 0)
        fail("cannot leave", "the host's root");
    control = CONTROL;
}

static void make_machine(void)
{
    mnt("proc", "proc", "/proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
    mnt("sysfs", "sys", "/sys", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
    mnt("cgroup2", "cgroup", "/sys/fs/cgroup", MS_NOSUID | MS_NODEV | MS_NOEXEC, "nsdelegate");
    mnt("devpts", "devpts", "/dev/pts", MS_NOSUID | MS_NOEXEC, "mode=620,gid=5,ptmxmode=666");
    mnt("tmpfs", "shm", "/dev/shm", MS_NOSUID | MS_NODEV, "mode=1777");
    mnt("mqueue", "mqueue", "/dev/mqueue", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
    /* Mount points that a site uses; empty whatever the host has there. */
    mnt("tmpfs", "srv", "/srv", 0, "mode=755");
    mnt("tmpfs", "jails", "/usr/jails", 0, "mode=755");
    mkdirs("/run/lock");
    mkdirs("/run/home");
    symlink("/proc/self/fd", "/dev/fd");
    symlink("/proc/self/fd/0", "/dev/stdin");
    symlink("/proc/self/fd/1", "/dev/stdout");
    symlink("/proc/self/fd/2", "/dev/stderr");
    symlink("pts/ptmx", "/dev/ptmx");

    const char *controllers[] = {"+cpu", "+io", "+memory", "+pids"};
    for (size_t i = 0; i < sizeof controllers / sizeof *controllers; i++)
        put("/sys/fs/cgroup/cgroup.subtree_control", controllers[i]);

    sethostname("lab", 3);
    unlink("/etc/hostname");
    put("/etc/hostname", "lab\n");
    unlink("/etc/hosts");
    put("/etc/hosts", "127.0.0.1 localhost lab\n::1 localhost\n");
    /* Both may hold what belongs to the host's own pools. */
    unlink("/etc/hostid");
    unlink("/etc/zfs/zpool.cache");

    struct ifreq lo;
    int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    memset(&lo, 0, sizeof lo);
    strcpy(lo.ifr_name, "lo");
    lo.ifr_flags = IFF_UP | IFF_RUNNING;
    if (s < 0 || ioctl(s, SIOCSIFFLAGS, &lo) != 0)
        fprintf(stderr, "lab: cannot bring up lo: %s\n", strerror(errno));
    if (s >= 0)
        close(s);
}

/* Runs a helper of the lab, with the kernel's log as its output. */
static void helper(char *const argv[])
{
    static char *const environment[] = {PATHVAR, "LC_ALL=C", "HOME=/run/home", NULL};
    int status;
    pid_t pid = fork();
    if (pid == 0) {
        execvpe(argv[0], argv, environment);
        _exit(127);
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid)
        fail("cannot run", argv[0]);
    if (status != 0) {
        errno = ECHILD;
        answer("lab cannot prepare the pool: %s %s failed (see the log)", argv[0], argv[1]);
        power_off();
    }
}

/* `zpool import` waits 3 s for udev's links of a disk. There is no udev; its database says: all done. */
static void pretend_udev(void)
{
    mkdirs("/run/udev/data");
    for (int n = 0; n < 8; n++) {
        char disk[32], record[64], text[64];
        snprintf(disk, sizeof disk, "/dev/ubd%c", 'a' + n);
        snprintf(record, sizeof record, "/run/udev/data/b98:%d", n * 16);
        snprintf(text, sizeof text, "I:1\nE:DEVLINKS=%s\n", disk);
        if (access(disk, F_OK) == 0)
            put(record, text);
    }
}

static void make_pool(void)
{
    const char *vdev = "/dev/ubda";
    if (!strcmp(conf_pool, "none"))
        return;
    if (!strcmp(conf_pool, "import")) {
        helper((char *[]){"zpool", "import", "-f", "-d", "/dev/ubda", "tank", NULL});
        return;
    }
    if (!strcmp(conf_pool, "tmpfs")) {
        vdev = "/run/lab/tank.img";
        int fd = open(vdev, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (fd < 0 || ftruncate(fd, 4LL << 30) != 0)
            fail("cannot make", vdev);
        close(fd);
    }
    helper((char *[]){"zpool", "create", "-f", "-o", "ashift=12", "-O", "compression=lz4", "-O", "acltype=posix",
                      "-O", "xattr=sa", "tank", (char *)vdev, NULL});
}

static int open_line(const char *path, int flags)
{
    struct termios raw;
    int fd = open(path, flags | O_NOCTTY | O_CLOEXEC);
    if (fd < 0)
        fail("cannot open", path);
    if (tcgetattr(fd, &raw) == 0) {
        cfmakeraw(&raw);
        tcsetattr(fd, TCSANOW, &raw);
    }
    return fd;
}

static void in_child(int in, int out, int err)
{
    char **argv = vector("argv", NULL), **env = vector("env", NULL);
    dup2(in, 0);
    dup2(out, 1);
    dup2(err, 2);
    signal(SIGCHLD, SIG_DFL);
    if (chdir(conf_cwd) != 0) {
        fprintf(stderr, "lab: cannot go to %s in the guest: %s\n", conf_cwd, strerror(errno));
        _exit(125);
    }
    execvpe(argv[0], argv, env);
    fprintf(stderr, "lab: cannot run %s in the guest: %s\n", argv[0], strerror(errno));
    _exit(errno == ENOENT ? 127 : 126);
}

/* Moves what is there from a pipe to a line; -1 at its end. */
static int pump(int from, int to)
{
    char buffer[16384];
    ssize_t got = read(from, buffer, sizeof buffer);
    if (got <= 0)
        return got < 0 && (errno == EAGAIN || errno == EINTR) ? 0 : -1;
    for (ssize_t done = 0; done < got;) {
        ssize_t put = write(to, buffer + done, got - done);
        if (put > 0)
            done += put;
        else if (errno != EAGAIN && errno != EINTR)
            return -1;
    }
    return 1;
}

static void on_child(int signal)
{
    (void)signal;
}

/* Process 1 is everybody's parent: reaps all, returns 1 when the command itself ended. */
static int reap(pid_t main_pid, int *status)
{
    int ended = 0, one;
    pid_t pid;
    while ((pid = waitpid(-1, &one, WNOHANG)) > 0)
        if (pid == main_pid) {
            *status = one;
            ended = 1;
        }
    return ended;
}

static int run_piped(void)
{
    int out[2], err[2], status = 0;
    /* The lines are terminals. Pipes between, or the command would see a terminal and paint on it. */
    int line1 = open_line("/dev/ttyS0", O_WRONLY), line2 = open_line("/dev/ttyS1", O_WRONLY);
    if (pipe2(out, O_CLOEXEC) != 0 || pipe2(err, O_CLOEXEC) != 0)
        fail("cannot make", "pipes");
    pid_t pid = fork();
    if (pid == 0) {
        sigset_t none;
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
        setsid();
        in_child(open("/dev/null", O_RDONLY | O_CLOEXEC), out[1], err[1]);
    }
    if (pid < 0)
        fail("cannot fork for", "the command");
    close(out[1]);
    close(err[1]);
    fcntl(out[0], F_SETFL, O_NONBLOCK);
    fcntl(err[0], F_SETFL, O_NONBLOCK);
    struct pollfd fds[2] = {{out[0], POLLIN, 0}, {err[0], POLLIN, 0}};
    const int lines[2] = {line1, line2};
    sigset_t none;
    sigemptyset(&none);
    while (!reap(pid, &status)) {
        ppoll(fds, 2, NULL, &none); /* SIGCHLD is blocked outside, so none is missed */
        for (int i = 0; i < 2; i++)
            if (fds[i].fd >= 0 && fds[i].revents && pump(fds[i].fd, lines[i]) < 0)
                fds[i].fd = -1;
    }
    /* What the command wrote before it ended; daemons that it left may hold the pipes open. */
    for (int i = 0; i < 2; i++) {
        while (fds[i].fd >= 0 && pump(fds[i].fd, lines[i]) > 0)
            ;
        tcdrain(lines[i]);
    }
    return status;
}

static int run_tty(void)
{
    int status = 0;
    pid_t pid = fork();
    if (pid == 0) {
        sigset_t none;
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
        setsid();
        int tty = open("/dev/tty0", O_RDWR | O_CLOEXEC);
        struct winsize size = {.ws_row = conf_rows, .ws_col = conf_cols};
        if (tty < 0)
            _exit(125);
        ioctl(tty, TIOCSCTTY, 1);
        ioctl(tty, TIOCSWINSZ, &size);
        in_child(tty, tty, tty);
    }
    if (pid < 0)
        fail("cannot fork for", "the command");
    sigset_t none;
    sigemptyset(&none);
    while (!reap(pid, &status))
        ppoll(NULL, 0, NULL, &none);
    return status;
}

int main(void)
{
    request = getenv("lab");
    if (!request) {
        fprintf(stderr, "lab: no lab= on the kernel's command line\n");
        power_off();
    }
    struct sigaction action = {.sa_handler = on_child};
    sigaction(SIGCHLD, &action, NULL);
    sigset_t block;
    sigemptyset(&block);
    sigaddset(&block, SIGCHLD);
    sigprocmask(SIG_BLOCK, &block, NULL);
    umask(022);

    read_conf();
    make_root();
    request = (char *)CONTROL;
    make_machine();
    pretend_udev();
    make_pool();
    answer("lab the guest ended before the command did");
    put(CONTROL "/started", "");
    int status = conf_tty ? run_tty() : run_piped();
    if (WIFSIGNALED(status))
        answer("signal %d", WTERMSIG(status));
    else
        answer("exit %d", WEXITSTATUS(status));
    power_off();
}
