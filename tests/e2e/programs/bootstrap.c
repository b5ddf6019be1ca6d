/* A custom runtime in C, free of any library: speaks the Runtime API over plain sockets.
   The handler's name says what it does: echo, fail, exit, init_fail. Built statically by test_provided.py. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#define LARGEST (8 << 20)
static char buffer[LARGEST + 1];

static int request(const char *method, const char *path, const char *header, const char *body, size_t length) {
    char host[64], head[1024];
    int port = 80;
    snprintf(host, sizeof host, "%s", getenv("AWS_LAMBDA_RUNTIME_API"));
    char *colon = strchr(host, ':');
    if (colon) { *colon = 0; port = atoi(colon + 1); }
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    inet_pton(AF_INET, host, &address.sin_addr);
    int connection = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(connection, (struct sockaddr *)&address, sizeof address)) { perror("connect"); exit(70); }
    int size = snprintf(head, sizeof head, "%s /2018-06-01/runtime/%s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n%sContent-Length: %zu\r\n\r\n",
                        method, path, host, header, length);
    if (write(connection, head, size) != size) exit(71);
    for (size_t sent = 0; sent < length;) {
        ssize_t count = write(connection, body + sent, length - sent);
        if (count <= 0) break;
        sent += count;
    }
    size_t total = 0;
    for (ssize_t count; total < LARGEST && (count = read(connection, buffer + total, LARGEST - total)) > 0;) {
        total += count;
        buffer[total] = 0;
        char *end = strstr(buffer, "\r\n\r\n"), *said = strcasestr(buffer, "content-length:");
        if (end && said && said < end && total >= (size_t)(end + 4 - buffer) + strtoul(said + 15, 0, 10)) break;
    }
    close(connection);
    buffer[total] = 0;
    return total ? atoi(buffer + 9) : 0;
}

int main(void) {
    const char *handler = getenv("_HANDLER");
    if (!strcmp(handler, "init_fail")) {
        const char *error = "{\"errorType\":\"Own.InitError\",\"errorMessage\":\"cannot start\"}";
        request("POST", "init/error", "Lambda-Runtime-Function-Error-Type: Own.InitError\r\n", error, strlen(error));
        return 1;
    }
    for (;;) {
        if (request("GET", "invocation/next", "", "", 0) != 200) return 72;
        char *said = strcasestr(buffer, "lambda-runtime-aws-request-id:"), id[64], path[128];
        if (!said || sscanf(said + 30, " %63s", id) != 1) return 73;
        static char event[LARGEST + 1];
        strcpy(event, strstr(buffer, "\r\n\r\n") + 4);
        printf("event of %zu bytes\n", strlen(event));
        fflush(stdout);
        if (!strcmp(handler, "exit")) return 9;
        if (!strcmp(handler, "fail")) {
            const char *error = "{\"errorType\":\"Own.Error\",\"errorMessage\":\"as told\"}";
            snprintf(path, sizeof path, "invocation/%s/error", id);
            request("POST", path, "Lambda-Runtime-Function-Error-Type: Own.Error\r\n", error, strlen(error));
        } else {
            snprintf(path, sizeof path, "invocation/%s/response", id);
            request("POST", path, "", event, strlen(event));
        }
    }
}
