# syntax=docker/dockerfile:1
FROM golang:1.26-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=dev
# Static, so that the final image needs no C library; SQLite is compiled in. The linker warns of dlopen, which is for
# SQLite's extensions: none is ever loaded. The flags are those that TestImageWithoutEngine builds with.
RUN CGO_ENABLED=1 go build -trimpath -tags netgo,osusergo \
    -ldflags "-s -w -X main.version=${VERSION} -linkmode external -extldflags -static" -o /resosync ./agent \
 && mkdir -p /data

# Nothing but the binary and the certificate authorities. The root file system may be read-only: all that is written
# stands in /data, which also holds resosync.yaml.
FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /resosync /usr/local/bin/resosync
COPY --from=build --chown=65532:65532 /data /data
USER 65532:65532
VOLUME /data
WORKDIR /data
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s --retries=3 CMD ["/usr/local/bin/resosync", "status", "--ready"]
ENTRYPOINT ["/usr/local/bin/resosync"]
CMD ["run"]
