/* An SMTP server that takes everything and keeps nothing but counts: the wire behind the MTA, too fast to matter.
 *
 *   sink PORT CANARY       on 127.0.0.1
 *
 * XCOUNT is answered by "250 ALL SMIME OPENPGP PLAIN": messages in all, those whose Content-Type is that of S/MIME or of
 * PGP/MIME, and those that hold the canary.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static atomic_long all, smime, openpgp, plain;
static const char *canary;

static void say(int peer, const char *words) { send(peer, words, strlen(words), MSG_NOSIGNAL); }

static void judge(const char *raw, size_t size) {
    const char *empty = memmem(raw, size, "\r\n\r\n", 4);
    size_t head = empty ? (size_t)(empty - raw) : size;
    if (memmem(raw, head, "application/pkcs7-mime", 22)) smime++;
    if (memmem(raw, head, "multipart/encrypted", 19)) openpgp++;
    if (memmem(raw, size, canary, strlen(canary))) plain++;
    all++;
}

static void command(int peer, const char *line, int *data, int *end) {
    if (!strncasecmp(line, "EHLO", 4)) say(peer, "250-sink\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SIZE 200000000\r\n");
    else if (!strncasecmp(line, "DATA", 4)) {
        say(peer, "354 go on\r\n");
        *data = 1;
    } else if (!strncasecmp(line, "QUIT", 4)) {
        say(peer, "221 bye\r\n");
        *end = 1;
    } else if (!strncasecmp(line, "XCOUNT", 6)) {
        char words[120];
        snprintf(words, sizeof words, "250 %ld %ld %ld %ld\r\n", all, smime, openpgp, plain);
        say(peer, words);
    } else say(peer, "250 ok\r\n");
}

static void *serve(void *argument) {
    int peer = (int)(intptr_t)argument, data = 0, end = 0, on = 1;
    size_t room = 1 << 17, held = 0;
    char *in = malloc(room);
    setsockopt(peer, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    say(peer, "220 sink ESMTP\r\n");
    while (!end) {
        if (held == room) in = realloc(in, room *= 2);
        ssize_t got = recv(peer, in + held, room - held, 0);
        if (got <= 0) break;
        held += got;
        for (char *stop; held && !end;) {
            const char *mark = data ? "\r\n.\r\n" : "\r\n";
            stop = memmem(in, held, mark, strlen(mark));
            if (!stop) break;
            size_t used = stop - in + strlen(mark);
            if (data) {
                judge(in, used);
                data = 0;
                say(peer, "250 taken\r\n");
            } else command(peer, in, &data, &end);
            held -= used;
            memmove(in, in + used, held);
        }
    }
    free(in);
    close(peer);
    return NULL;
}

int main(int argc, char **argv) {
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int listener = socket(AF_INET, SOCK_STREAM, 0), on = 1;
    if (argc != 3) return 2;
    here.sin_port = htons(atoi(argv[1]));
    canary = argv[2];
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&here, sizeof here) || listen(listener, 512)) return 1;
    for (;;) {
        pthread_t thread;
        int peer = accept(listener, NULL, NULL);
        if (peer >= 0 && !pthread_create(&thread, NULL, serve, (void *)(intptr_t)peer)) pthread_detach(thread);
    }
}
