/* The milter protocol on the wire, for driver.c: packets, steps with their macros, and the beginning and the end of a
 * connection.  What the filter negotiates (SMFIP_NR_*, SMFIP_NO*) is honoured in step().
 */
#include <arpa/inet.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

enum { CHUNK = 65535, OUT = 1 << 16, IN = 1 << 17, LEADING_SPACE = 1 << 20 };

/* Which commands are left out, and which are not answered (SMFIP_*). */
static const struct { char command; uint32_t skip, no_reply; } STEPS[] = {
    {'C', 1 << 0, 1 << 12}, {'H', 1 << 1, 1 << 13}, {'M', 1 << 2, 1 << 14}, {'R', 1 << 3, 1 << 15},
    {'T', 1 << 9, 1 << 16}, {'L', 1 << 5, 1 << 7},  {'N', 1 << 6, 1 << 18}, {'B', 1 << 4, 1 << 19},
};

struct connection {
    pthread_t thread;
    int socket;
    uint32_t steps;
    char out[OUT], in[IN];
    size_t out_size, in_at, in_end;
    const char *reply; /* the data of the last answer to a step, within `in` */
    size_t reply_size;
    double *end_ms, *whole_ms;
    long count, room, wrong;
    uint64_t replaced;
    char why[200];
};

static void fail(const char *format, ...) {
    va_list words;
    va_start(words, format);
    fprintf(stderr, "driver: ");
    vfprintf(stderr, format, words);
    fprintf(stderr, "\n");
    exit(1);
}

/* --- packets */

static void put(struct connection *c, const void *octets, size_t size) {
    while (size) {
        ssize_t done = send(c->socket, octets, size, MSG_NOSIGNAL);
        if (done <= 0) fail("the filter closed the connection while it was written to");
        octets = (const char *)octets + done;
        size -= done;
    }
}

static void flush(struct connection *c) {
    put(c, c->out, c->out_size);
    c->out_size = 0;
}

static void append(struct connection *c, const void *octets, size_t size) {
    if (c->out_size + size > OUT) flush(c);
    if (size > OUT) {
        put(c, octets, size);
        return;
    }
    memcpy(c->out + c->out_size, octets, size);
    c->out_size += size;
}

static void packet(struct connection *c, char command, const void *data, size_t size) {
    uint32_t length = htonl(size + 1);
    char head[5];
    memcpy(head, &length, 4);
    head[4] = command;
    append(c, head, 5);
    append(c, data, size);
}

/* Makes at least `size` octets readable at c->in + c->in_at (size <= IN). */
static void need(struct connection *c, size_t size) {
    if (c->in_at + size > IN) {
        memmove(c->in, c->in + c->in_at, c->in_end - c->in_at);
        c->in_end -= c->in_at;
        c->in_at = 0;
    }
    while (c->in_end - c->in_at < size) {
        ssize_t got = recv(c->socket, c->in + c->in_end, IN - c->in_end, 0);
        if (got == 0) fail("the filter closed the connection");
        if (got < 0) fail("no answer from the filter within the time");
        c->in_end += got;
    }
}

/* The next packet: its command, and its data within the buffer until the next call. */
static char answer(struct connection *c, const char **data, size_t *size) {
    uint32_t length;
    flush(c);
    need(c, 5);
    memcpy(&length, c->in + c->in_at, 4);
    length = ntohl(length);
    if (length < 1 || length + 4 > IN) fail("a packet of %u octets", length);
    need(c, length + 4);
    char command = c->in[c->in_at + 4];
    *data = c->in + c->in_at + 5;
    *size = length - 1;
    c->in_at += length + 4;
    if (c->in_at == c->in_end) c->in_at = c->in_end = 0;
    return command;
}

/* One command with its macros.  Returns 'c' where nothing is answered or the step is left out. */
static char step(struct connection *c, char command, const void *data, size_t size, const char *macros,
                 size_t macros_size) {
    for (size_t i = 0; i < sizeof STEPS / sizeof *STEPS; i++) {
        if (STEPS[i].command != command) continue;
        if (c->steps & STEPS[i].skip) return 'c';
        if (macros) packet(c, 'D', macros, macros_size);
        packet(c, command, data, size);
        if (c->steps & STEPS[i].no_reply) return 'c';
        return answer(c, &c->reply, &c->reply_size);
    }
    fail("no such step: %c", command);
    return 0;
}

/* --- connections */

static void dial(struct connection *c, const char *address) {
    struct timeval patience = {120, 0};
    if (!strncmp(address, "unix:", 5)) {
        struct sockaddr_un there = {.sun_family = AF_UNIX};
        snprintf(there.sun_path, sizeof there.sun_path, "%s", address + 5);
        c->socket = socket(AF_UNIX, SOCK_STREAM, 0);
        if (connect(c->socket, (struct sockaddr *)&there, sizeof there)) fail("%s: %m", address);
    } else {
        struct sockaddr_in there = {.sin_family = AF_INET};
        const char *host = strchr(address, '@');
        if (strncmp(address, "inet:", 5) || !host) fail("not unix:PATH or inet:PORT@HOST: %s", address);
        there.sin_port = htons(atoi(address + 5));
        inet_pton(AF_INET, host + 1, &there.sin_addr);
        c->socket = socket(AF_INET, SOCK_STREAM, 0);
        if (connect(c->socket, (struct sockaddr *)&there, sizeof there)) fail("%s: %m", address);
    }
    setsockopt(c->socket, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    c->out_size = c->in_at = c->in_end = 0;
}

#define MACROS(name, text) static const char name[] = text
MACROS(CONNECT_MACROS, "Cj\0mta.test\0{daemon_name}\0mta.test\0v\0Postfix\0");
MACROS(MAIL_MACROS, "M{mail_addr}\0sender@s.test\0{mail_host}\0s.test\0{mail_mailer}\0smtp\0");
#define STEP(c, command, data, size, macros) step(c, command, data, size, macros, sizeof macros - 1)

static void greet(struct connection *c, const char *address) {
    uint32_t offer[3] = {htonl(6), htonl(0x1ff), htonl(0x1fffff)}, steps;
    static const char client[] = "client.test\0" "4\x9c\x40" "192.0.2.7";
    dial(c, address);
    packet(c, 'O', offer, sizeof offer);
    if (answer(c, &c->reply, &c->reply_size) != 'O' || c->reply_size < 12) fail("the negotiation was refused");
    memcpy(&steps, c->reply + 8, 4);
    c->steps = ntohl(steps);
    if (STEP(c, 'C', client, sizeof client, CONNECT_MACROS) != 'c') fail("the connection was refused");
    if (STEP(c, 'H', "client.test", 12, "H") != 'c') fail("HELO was refused");
}

static void leave(struct connection *c) {
    packet(c, 'Q', NULL, 0);
    flush(c);
    close(c->socket);
}
