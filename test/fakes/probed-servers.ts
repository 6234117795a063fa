/** Servers for probes of checks, on loopback: they answer what a test says, and note what they were sent. `closeServers` ends all of them. */
import { once } from "node:events";
import { createServer as createHttp2, createSecureServer, type Http2Server, type ServerHttp2Stream } from "node:http2";
import { type AddressInfo, createServer, type Server, type Socket } from "node:net";
import { createServer as createTls } from "node:tls";
import { newAuthority } from "./certificate.ts";

const open = new Set<Server | Http2Server>();
const sockets = new Set<Socket>();

export function closeServers(): void {
  for (const socket of sockets) socket.destroy();
  for (const server of open) server.close();
  sockets.clear();
  open.clear();
}

async function listening(server: Server | Http2Server, host = "127.0.0.1", port = 0): Promise<number> {
  open.add(server);
  server.on("connection", (socket: Socket) => {
    sockets.add(socket);
    socket.on("error", () => {});
  });
  server.listen(port, host);
  await once(server, "listening");
  return (server.address() as AddressInfo).port;
}

let certificate: { readonly cert: string; readonly key: string } | undefined;

/** Nobody trusts it. */
function untrusted() {
  certificate ??= newAuthority().issue("localhost");
  return certificate;
}

export interface Answering {
  readonly port: number;
  /** What clients sent, in order. */
  readonly said: string[];
  readonly connectionCount: () => number;
  /** Connections that the client has not closed. */
  readonly openCount: () => number;
}

export interface AnsweringOptions {
  readonly isTls?: boolean;
  readonly host?: string;
  readonly port?: number;
}

/** Answers each connection by this function, once something was said; without one it says nothing. */
export async function answering(
  answer?: (socket: Socket) => void,
  { isTls = false, host, port }: AnsweringOptions = {},
): Promise<Answering> {
  const said: string[] = [];
  let [count, left] = [0, 0];
  const serve = (socket: Socket) => {
    count += 1;
    left += 1;
    socket.once("close", () => {
      left -= 1;
    });
    socket.on("error", () => {});
    socket.once("data", (bytes: Buffer) => {
      said.push(bytes.toString("latin1"));
      answer?.(socket);
    });
  };
  const server = isTls ? createTls(untrusted(), serve) : createServer(serve);
  return { port: await listening(server, host, port), said, connectionCount: () => count, openCount: () => left };
}

/** A port on which nobody listens. */
export async function freePort(): Promise<number> {
  const server = createServer();
  const port = await listening(server);
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** `grpc.health.v1`: what it says of each service, as the number of the status. Others are not known. */
export async function healthServer(
  services: ReadonlyMap<string, number>,
  { isTls = false, host, port }: AnsweringOptions = {},
): Promise<Answering> {
  const said: string[] = [];
  let [count, left] = [0, 0];
  const server = isTls ? createSecureServer(untrusted()) : createHttp2();
  server.on("session", (session) => {
    count += 1;
    left += 1;
    session.once("close", () => {
      left -= 1;
    });
  });
  server.on("stream", (stream: ServerHttp2Stream, headers) => {
    stream.on("error", () => {});
    const chunks: Buffer[] = [];
    stream.on("data", (chunk: Buffer) => chunks.push(chunk));
    stream.on("end", () => {
      // A frame of gRPC has 5 bytes before its message, and the message a tag and a length before the text.
      const service = Buffer.concat(chunks).subarray(7).toString();
      said.push(`${headers[":path"]} ${service} ${String(headers["authorization"])}`);
      const status = services.get(service);
      if (status === undefined) {
        stream.respond({ ":status": 200, "content-type": "application/grpc", "grpc-status": "5" }, { endStream: true });
        return;
      }
      stream.respond({ ":status": 200, "content-type": "application/grpc" }, { waitForTrailers: true });
      stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": "0" }));
      stream.end(Buffer.from([0, 0, 0, 0, 2, 8, status]));
    });
  });
  return { port: await listening(server, host, port), said, connectionCount: () => count, openCount: () => left };
}
