/* A milter that costs next to nothing: to every message it answers at once with a new body and a new Content-Type.
 *
 *   echo PATH STEPS OCTETS      listens on a UNIX socket; STEPS are the SMFIP_* flags to negotiate
 *
 * It knows no library and reads nothing of the message: the driver's speed against it is the driver's own limit.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static uint32_t steps;
static char *answer;
static size_t answer_size;

static const struct { char command; uint32_t no_reply; } STEPS[] = {
    {'C', 1 << 12}, {'H', 1 << 13}, {'M', 1 << 14}, {'R', 1 << 15}, {'T', 1 << 16},
    {'L', 1 << 7}, {'N', 1 << 18}, {'B', 1 << 19}, {'D', ~0u}, {'A', ~0u},
};

static size_t put(char *at, char command, const void *data, size_t size) {
    uint32_t length = htonl(size + 1);
    memcpy(at, &length, 4);
    at[4] = command;
    memcpy(at + 5, data, size);
    return size + 5;
}

static int is_answered(char command) {
    for (size_t i = 0; i < sizeof STEPS / sizeof *STEPS; i++)
        if (STEPS[i].command == command) return !(steps & STEPS[i].no_reply);
    return 1;
}

static void *serve(void *argument) {
    int peer = (int)(intptr_t)argument;
    char in[1 << 17], out[32];
    size_t held = 0;
    for (;;) {
        ssize_t got = recv(peer, in + held, sizeof in - held, 0);
        size_t at = 0;
        uint32_t length;
        if (got <= 0) break;
        held += got;
        while (held - at >= 5 && (memcpy(&length, in + at, 4), held - at >= ntohl(length) + 4u)) {
            char command = in[at + 4];
            uint32_t offer[3] = {htonl(6), htonl(0x3f), htonl(steps)};
            at += ntohl(length) + 4;
            if (command == 'Q') goto end;
            if (command == 'O') send(peer, out, put(out, 'O', offer, sizeof offer), MSG_NOSIGNAL);
            else if (command == 'E') send(peer, answer, answer_size, MSG_NOSIGNAL);
            else if (is_answered(command)) send(peer, out, put(out, 'c', "", 0), MSG_NOSIGNAL);
        }
        held -= at;
        memmove(in, in + at, held);
    }
end:
    close(peer);
    return NULL;
}

int main(int argc, char **argv) {
    static const char type[] = "Content-Type\0 application/pkcs7-mime; smime-type=enveloped-data";
    struct sockaddr_un here = {.sun_family = AF_UNIX};
    int listener = socket(AF_UNIX, SOCK_STREAM, 0);
    if (argc != 4) return 2;
    snprintf(here.sun_path, sizeof here.sun_path, "%s", argv[1]);
    steps = atoi(argv[2]);
    size_t octets = atoi(argv[3]);
    char *body = malloc(octets);
    memset(body, 'M', octets);
    answer = malloc(octets + 200);
    answer_size = put(answer, 'b', body, octets);
    answer_size += put(answer + answer_size, 'h', type, sizeof type);
    answer_size += put(answer + answer_size, 'a', "", 0);
    umask(0); /* the MTA is another user */
    if (bind(listener, (struct sockaddr *)&here, sizeof here) || listen(listener, 128)) return 1;
    for (;;) {
        pthread_t thread;
        int peer = accept(listener, NULL, NULL);
        if (peer >= 0 && !pthread_create(&thread, NULL, serve, (void *)(intptr_t)peer)) pthread_detach(thread);
    }
}
