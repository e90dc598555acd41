/* The least that answers a warm credential as onecred does, to be measured beside it: the same questions to the kernel for each
 * connection, the same sandbox around it, the same silence in the journal; and nothing else. For measurements alone.
 *
 * floor FOLDER [PATH]: serves the files of FOLDER under their names, on the socket handed over by systemd or at PATH. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif

static char value[(1 << 20) + 1];

static int fail(const char *what) {
    perror(what);
    exit(1);
}

/* READY=1 to the service manager, if there is one. */
static void ready(void) {
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un manager = { .sun_family = AF_UNIX };
    if (!path || strlen(path) >= sizeof manager.sun_path) return;
    strcpy(manager.sun_path, path);
    if (*path == '@') manager.sun_path[0] = 0;
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || sendto(fd, "READY=1", 7, MSG_NOSIGNAL, (void *)&manager, offsetof(struct sockaddr_un, sun_path) + strlen(path)) < 0)
        fail("READY=1");
    close(fd);
}

static int listener(const char *path) {
    const char *pid = getenv("LISTEN_PID");
    if (!path && pid && atoi(pid) == getpid()) return 3;
    struct sockaddr_un own = { .sun_family = AF_UNIX };
    if (!path || strlen(path) >= sizeof own.sun_path) fail("no socket");
    strcpy(own.sun_path, path);
    unlink(path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (void *)&own, sizeof own) || listen(fd, 4096)) fail(path);
    return fd;
}

/* Whether the cgroup of a process is that of a unit: the first component of its path that is no slice, one leading _ apart. */
static int is_in(pid_t pid, const char *unit) {
    char path[32], text[4096];
    snprintf(path, sizeof path, "/proc/%d/cgroup", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return 0;
    ssize_t length = read(fd, text, sizeof text - 1);
    close(fd);
    if (length <= 0) return 0;
    text[length] = 0;
    char *line = strncmp(text, "0::", 3) ? strstr(text, "\n0::") : text;
    if (!line) return 0;
    line = strstr(line, "0::") + 3;
    line[strcspn(line, "\n")] = 0;
    for (char *rest = line, *part; (part = strsep(&rest, "/"));) {
        size_t n = strlen(part);
        if (!n || (n > 6 && !strcmp(part + n - 6, ".slice"))) continue;
        return !strcmp(part + (*part == '_'), unit);
    }
    return 0;
}

/* The length of what the peer may have, now in `value`; less than 0 if it may have nothing. */
static ssize_t find(int socket, int folder) {
    struct sockaddr_un peer;
    socklen_t length = sizeof peer;
    if (getpeername(socket, (void *)&peer, &length)) return -1;
    size_t n = length - offsetof(struct sockaddr_un, sun_path);
    if (length <= offsetof(struct sockaddr_un, sun_path) + 1 || n >= sizeof peer.sun_path || peer.sun_path[0]) return -1;
    peer.sun_path[n] = 0;
    /* \0HEX/unit/UNIT/ID */
    char *unit = strchr(peer.sun_path + 1, '/');
    if (!unit || strncmp(unit, "/unit/", 6)) return -1;
    unit += 6;
    char *id = strchr(unit, '/');
    if (!id) return -1;
    *id++ = 0;
    if (!*id || *id == '.' || strchr(id, '/')) return -1;

    struct ucred who;
    length = sizeof who;
    if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &who, &length) || who.uid != geteuid()) return -1;
    int pidfd;
    length = sizeof pidfd;
    if (getsockopt(socket, SOL_SOCKET, SO_PEERPIDFD, &pidfd, &length)) return -1;
    int right = is_in(who.pid, unit);
    struct pollfd ended = { pidfd, POLLIN, 0 };
    right = poll(&ended, 1, 0) == 0 && right;
    close(pidfd);
    if (!right) return -1;

    int file = openat(folder, id, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (file < 0) return -1;
    ssize_t got = read(file, value, sizeof value);
    close(file);
    return got;
}

int main(int argc, char **argv) {
    if (argc < 2) return fprintf(stderr, "usage: floor FOLDER [PATH]\n"), 2;
    int folder = open(argv[1], O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (folder < 0) fail(argv[1]);
    int from = listener(argv[2]);
    ready();
    for (;;) {
        int socket = accept4(from, NULL, NULL, SOCK_CLOEXEC);
        if (socket < 0) {
            if (errno == EINTR || errno == ECONNABORTED) continue;
            fail("accept");
        }
        ssize_t length = find(socket, folder), sent = 0, n;
        while (sent < length && (n = send(socket, value + sent, length - sent, MSG_NOSIGNAL)) > 0) sent += n;
        while (length < 0 && send(socket, value, sizeof value, MSG_NOSIGNAL) > 0); /* refused: more than anyone takes */
        close(socket);
    }
}
